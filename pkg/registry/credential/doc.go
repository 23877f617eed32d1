// Package credential keeps what users prove to be by to registries.
//
// # Theory of operation
//
// There is no file of containr's own: what docker login, podman login and containr login
// write is one and the same, so that nobody has to log in twice. Two kinds of files
// have the same form, the field auths of a JSON object:
//
//	auth.json      of podman and its kin: $REGISTRY_AUTH_FILE, or else
//	               $XDG_RUNTIME_DIR/containers/auth.json, or else ~/.config/containers/auth.json
//	config.json    of docker: in $DOCKER_CONFIG or ~/.docker; it also names helper programs
//	               (credsStore, credHelpers), which keep secrets out of files
//
// [Find] asks them in this order, and the first that knows the registry answers. An entry
// for a repository (registry.example/team) is none for the whole registry and not looked at.
//
// [Save] writes to $REGISTRY_AUTH_FILE if that is set, else to docker's config.json, or
// rather to the helper that it names. Fields that are not ours stay as they are. The
// file is replaced atomically under a lock, with mode 0600; a symbolic link stays one.
//
// A helper is a program docker-credential-NAME, started without a shell: the verb is its
// argument, everything else, secrets above all, goes through pipes. What it prints
// is part of an error only if it is the message of a failed get, cut and made printable.
package credential
