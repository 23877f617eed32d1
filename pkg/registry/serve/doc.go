// Package serve is a small registry: it lets others push to an image store and pull from it.
//
// # Vocabulary
//
// The domain is what the registry is called in the store, such as "localhost:5000". Image
// NAME:TAG of the registry is image DOMAIN/NAME:TAG of the store, and nothing else of the store
// can be seen through the registry. So the registry keeps no books of its own: what is pushed is
// listed by `containr images`, run, tagged and removed like everything else, and what is tagged
// with a name of the domain can be pulled at once.
//
// A manifest of a repository is what one of its names means, or what an index of it lists. A blob
// of a repository is what one of its manifests lists. What was uploaded and no manifest lists yet
// is held: see held.go.
//
// # Theory of operation
//
// The protocol is that of the OCI distribution specification v1.1: pull, push, discovery (tags,
// referrers, and docker's catalog) and management. A request goes through
//
//  1. who asks (auth.go): with a file of users, only they; never a page of another origin;
//  2. what is asked for (route.go): the path is taken apart, and every repository, tag, digest and
//     session in it must be one by grammar before anything is done with it. Nothing that a client
//     says becomes part of a path of the file system but a digest that was parsed;
//  3. the handler of the resource: blob.go, upload.go, manifest.go, list.go.
//
// Reading asks the view (view.go): which repositories there are, and what is in each. It is
// made of index.json and the manifests, which never change, so that it is made anew only when
// index.json is another file than before, whoever replaced it.
//
// Writing goes through the store as a pull does: the bytes of an upload go to a file under
// ingest/, hashed on the way, and become a blob only when the digest is right; a manifest is taken
// when all that it lists is in its repository; the name is written last, atomically. A server that
// is killed has lost the sessions, which clients begin anew, and what it held; everything it
// confirmed a name for is there.
//
// What a client can make us spend is bounded ([Limits]): the size of a blob and of a manifest, the
// number of sessions and for how long they may idle, the bytes that are held without a manifest, and
// how much of the disk must stay free.
package serve
