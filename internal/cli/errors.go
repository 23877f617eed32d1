package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/apparmor"
	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/internal/errcode"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/cdi"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/host"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/monitor"
	"github.com/containr/containr/pkg/network/apply"
	"github.com/containr/containr/pkg/network/cni"
	"github.com/containr/containr/pkg/networks"
	"github.com/containr/containr/pkg/plan/shell"
	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/registry/credential"
	"github.com/containr/containr/pkg/registry/hosts"
	"github.com/containr/containr/pkg/registry/trust"
	"github.com/containr/containr/pkg/resolver"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/seccomp/profile"
	"github.com/containr/containr/pkg/secret"
	"github.com/containr/containr/pkg/snapshot"
	"github.com/containr/containr/pkg/volume"
	"github.com/containr/containr/pkg/volume/plugin"
)

// usageError is a command line that was not understood.
type usageError struct {
	text string
	hint string
	code string // if it is not errcode.Usage, nor that of err
	err  error
}

func (e *usageError) Error() string { return e.text }
func (e *usageError) Unwrap() error { return e.err }

func usageErrorf(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// statusError is an exit status with an error to report, or, if err is nil,
// without.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

// report prints an error and returns the exit status that it stands for.
func (p *Program) report(err error) int {
	if err == nil {
		return 0
	}
	status := statusFailed
	var usage *usageError
	var exit *statusError
	var form *present.Error
	switch {
	case errors.As(err, &exit):
		status, err = exit.status, exit.err
	case errors.As(err, &usage), errors.As(err, &form):
		status = statusUsage
	}
	if err != nil {
		p.print(err)
	}
	return status
}

// print prints an error: what was wrong, what to do about it, and where more is said about errors of its kind. Of several
// that follow each other and have that in common, it is said once.
func (p *Program) print(err error) {
	if p.global.errorFormat == "json" || p.global.logFormat == "json" {
		p.printOne(p.reportOf(err))
		return
	}
	var reports []errorReport
	for _, part := range partsOf(err) {
		r := p.reportOf(part)
		if last := len(reports) - 1; last >= 0 && reports[last].Code == r.Code && reports[last].Hint == r.Hint {
			reports[last].Message += "\n" + r.Message
			continue
		}
		reports = append(reports, r)
	}
	for _, r := range reports {
		p.printOne(r)
	}
}

// partsOf are the errors that err joins, as that of a command on several containers does.
func partsOf(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || fmt.Sprint(err) != fmt.Sprint(errors.Join(joined.Unwrap()...)) {
		return []error{err}
	}
	var parts []error
	for _, one := range joined.Unwrap() {
		parts = append(parts, partsOf(one)...)
	}
	return parts
}

func (p *Program) reportOf(err error) errorReport {
	r := errorReport{Code: codeOf(err), Message: message(err), Hint: hintFor(err)}
	if near := p.nearestName(err); near != "" {
		r.Hint = "did you mean " + near + "?"
	}
	if from := p.notGiven(r.Message); from != "" {
		r.Hint = strings.TrimSuffix(from+"; "+r.Hint, "; ")
	}
	// Errors quote what images, registries and containers have written.
	r.Message, r.Hint = present.Clean(r.Message), present.CleanLine(r.Hint)
	return r
}

func (p *Program) printOne(r errorReport) {
	switch {
	case p.global.errorFormat == "json":
		p.printJSON(r)
	case p.global.logFormat == "json":
		attrs := []any{"code", r.Code}
		if r.Hint != "" {
			attrs = append(attrs, "hint", r.Hint)
		}
		slog.Error(r.Message, attrs...)
	default:
		fmt.Fprintln(p.Err, "containr: "+strings.ReplaceAll(r.Message, "\n", "\ncontainr: "))
		if r.Hint != "" {
			fmt.Fprintln(p.Err, "hint: "+r.Hint)
		}
		if r.Code != errcode.Usage && r.Code != errcode.Other && r.Code != errcode.Interrupted {
			fmt.Fprintln(p.Err, "more: containr explain "+r.Code)
		}
	}
}

// errorReport is an error as --error-format json prints it, on one line.
type errorReport struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

func (p *Program) printJSON(r errorReport) {
	_ = present.EncodeJSON(p.Err, r, "") // as with the other forms, there is nobody left to tell
}

// codeOf is the error's code. What it stands for counts more than that a command line was to blame.
func codeOf(err error) string {
	code := errcode.Of(err)
	var usage *usageError
	var form *present.Error
	switch {
	case errors.Is(err, context.Canceled):
		return errcode.Interrupted
	case errors.As(err, &usage) && usage.code != "":
		return usage.code
	case code == errcode.Other && (errors.As(err, &usage) || errors.As(err, &form)):
		return errcode.Usage
	}
	return code
}

// nearestName finds, for an error about a name that nothing has, the container or image that is here and has nearly the
// same name. The name is one of the words of the command line.
func (p *Program) nearestName(err error) string {
	var names []string
	var nothing *nothingError
	e, engineErr := p.engine()
	switch {
	case engineErr != nil:
		return ""
	case errors.As(err, &nothing):
		if nothing.hint != "" {
			return "" // that one is meant
		}
		names, _ = e.ContainerNames()
		images, _ := e.ImageNames()
		names = append(names, images...)
	case errors.Is(err, container.ErrNotFound):
		names, _ = e.ContainerNames() // without a list there is nothing to suggest
	case errors.Is(err, image.ErrNotFound):
		names, _ = e.ImageNames()
	}
	message := err.Error()
	for _, word := range p.words {
		if !strings.Contains(message, word) {
			continue // it is about another one
		}
		if near := spelling.Nearest(word, names); near != "" && near != word && !slices.Contains(names, word) {
			return near
		}
	}
	return ""
}

// message is the error as a person reads it: joined errors one after the other.
func message(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

// hints say what to do about an error. The first that fits is printed.
var hints = []struct {
	err  error
	text string
}{
	{container.ErrNameInUse, "choose another --name, or remove that container with `containr rm`"},
	{container.ErrNoCommand, "name a program after the image"},
	{container.ErrNoInit, "`make` builds containr-init; it belongs beside containr"},
	{container.ErrUnknownUser, "use a number, which need not be known to the image"},
	{container.ErrNewer, "use the containr that made it, or another --root"},
	{engine.ErrNoSource, "make it first, or have an empty directory made with --mount type=bind,bind-create-src,source=...,target=..."},
	{engine.ErrNoProfile, "seccomp=default is the profile that containers have by themselves, seccomp=strict allows less, seccomp=unconfined is none; else name a file"},
	{engine.ErrNoFilter, "record it with a filter: without --privileged and seccomp=unconfined, or name one, such as --security-opt seccomp=strict"},
	{profile.ErrNothingToLearn, "record with a filter that refuses by default, such as --security-opt seccomp=default"},
	{engine.ErrCaptureNeedsRoot, "run a program that captures, such as tcpdump, in the container with `containr exec`; or run the container as root"},
	{volume.ErrSnapshotWritten, "`containr volume restore VOLUME@NAME` makes the volume what it was then; leave out @NAME to write to the volume"},
	{engine.ErrNotConnected, "`containr inspect` shows the networks of a container"},
	{engine.ErrNoRoot, "name a directory of your own with --root"},
	{engine.ErrRunning, "`containr rm -f` kills it first"},
	{engine.ErrChanges, "`containr diff` lists all, `containr cp` and `containr commit` keep them; without --check-changes they go"},
	{engine.ErrNotRunning, "`containr start` runs it; `containr ps -a` lists all containers"},
	{engine.ErrPortTaken, "publish another port of the host, or leave the choice: -p PORT"},
	{engine.ErrNetworkNeedsRoot, "an ordinary user has networks of the driver bridge; `containr network create NAME` makes one"},
	{apply.ErrForeign, "choose another name, -o com.docker.network.bridge.name=NAME, or none; `ip -d link` shows the host's devices"},
	{engine.ErrNothingToReload, "`containr inspect` shows the networks of a container; `containr restart` has plugins connect one anew"},
	{engine.ErrNoIPv6, "leave that --subnet out; the kernel's command line has ipv6.disable=1, or it was built without CONFIG_IPV6"},
	{engine.ErrLoopback6, "publish it at 127.0.0.1, -p 127.0.0.1:8080:80, or at another address of the host's"},
	{engine.ErrRelay, "--publish-policy nat has rules lead ports of all protocols; plugins of CNI have rules of their own, or not"},
	{engine.ErrParent, "`ip link` lists the devices; name the one whose network the containers are to be in, such as -o parent=eth0"},
	{engine.ErrNoNetworkProgram, "make install, or copy containr-usernet beside containr"},
	{engine.ErrLowPort, "publish a higher port, -p 8080:80; or let everybody listen there: sudo sysctl net.ipv4.ip_unprivileged_port_start=80"},
	{engine.ErrNoBackend, "--network builtin needs no other program"},
	{engine.ErrLayerSize, "a volume with a size bounds a directory: `containr volume create -o size=1g data`, `containr run -v data:/data`; so does --tmpfs /DIR:size=1g"},
	{container.ErrNoLandlock, "`containr doctor` says what is missing; --read-only and volumes keep a container from writing elsewhere, too"},
	{container.ErrNoNetwork, "`containr doctor` says what mends it; a user needs /dev/net/tun: sudo modprobe tun; sudo chmod 666 /dev/net/tun"},
	{container.ErrNotGranted, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER grants you more; newuidmap and newgidmap, of the package uidmap, use them: `containr doctor` says what is missing"},
	{engine.ErrPortsAtStart, "say -p when a container is made: `containr rm` this one, and `containr run -p` makes it anew"},
	{engine.ErrNoPortsThere, "ports are published in networks of the driver bridge; `containr network connect` connects a container with one"},
	{engine.ErrConnected, "`containr network inspect` shows who is in it"},
	{networks.ErrInUse, "`containr network inspect` shows who is in it; `containr rm` removes a container, `containr network disconnect` takes it out"},
	{cni.ErrNoPlugin, "`apt-get install containernetworking-plugins` brings the usual ones to /usr/lib/cni; --cni-bin-dir names another directory"},
	{cni.ErrNoNetavark, "`apt-get install netavark` brings it to /usr/lib/podman; --cni-bin-dir names another directory, such as containr's own libexec/containr/cni"},
	{engine.ErrOtherBackend, "`containr network create --network-backend netavark` makes one of netavark's; `containr network inspect` says whose one is"},
	{engine.ErrNotByBackend, "the back end builtin knows all drivers and flags"},
	{cni.ErrNotFound, "`containr network ls --filter driver=cni` lists those that there are; --cni-conf-dir names another directory"},
	{cni.ErrInvalid, "the form is that of https://www.cni.dev/docs/spec/"},
	{cni.ErrVersion, "the file's cniVersion has to be one that containr and all its plugins know: `echo '{\"cniVersion\":\"1.0.0\"}' | CNI_COMMAND=VERSION PLUGIN` asks a plugin"},
	{cni.ErrNoCapability, "chain a plugin that can, with \"capabilities\": {NAME: true}: portmap has portMappings, bandwidth has bandwidth, bridge and tuning have mac, host-local has ips"},
	{cni.ErrPlugin, "mend what the plugin complains of: later commands have it undo the rest then; `containr system check` lists what is left, and with --repair takes away what was never connected"},
	{cni.ErrAnnotation, "NAME, NAME@INTERFACE,NAME..., or JSON: [{\"name\": NAME, \"interface\": NAME, \"ips\": [ADDRESS/BITS]}]"},
	{engine.ErrNoNames, "`containr network create` makes a network in which containers have names"},
	{resolver.ErrPort, "let that name server listen at the addresses of its own alone (dnsmasq: bind-interfaces), or make the network with --disable-dns"},
	{networks.ErrOverlap, "choose another --subnet, or leave the choice to containr"},
	{networks.ErrAddress, "leave the choice to containr, or see with `containr network inspect` what is free"},
	{networks.ErrNotFound, "`containr network ls` lists networks, `containr network create` makes one"},
	{secret.ErrInUse, "a container reads its secrets whenever it starts: `containr rm CONTAINER` first; `containr secret create --replace` changes what the secret holds"},
	{secret.ErrNotFound, "`containr secret ls` lists secrets, `containr secret create NAME FILE` makes one"},
	{secret.ErrExists, "choose another name, or give it other content with --replace"},
	{secret.ErrConfigInUse, "`containr rm CONTAINER` first; `containr config create --replace` changes what containers that are made from now on get"},
	{secret.ErrNoConfig, "`containr config ls` lists configs, `containr config create NAME FILE` makes one"},
	{secret.ErrConfigExists, "choose another name, or give it other content with --replace"},
	{secret.ErrSealed, "bring back the key that the secrets were made with, or make them anew: `containr secret rm`, then `containr secret create`"},
	{apparmor.ErrLoad, "--security-opt apparmor=unconfined runs a container without a profile"},
	{volume.ErrOptions, "`containr volume create --help` shows the forms"},
	{plugin.ErrNotFound, "start the plugin; its socket is NAME.sock in /run/docker/plugins, or NAME.spec in /etc/docker/plugins names it"},
	{plugin.ErrRefused, "the plugin's log may tell more"},
	{plugin.ErrAnswer, "the plugin's log may tell more"},
	{volume.ErrLimited, "`containr cp` copies to a container that has the volume; `containr volume import` makes a volume without a size"},
	{volume.ErrNoLoop, "`losetup --list` says who has them, `modprobe loop` brings the first"},
	{volume.ErrElsewhere, "`containr cp` copies from and to a container that has it; `containr volume inspect` says where it is"},
	{volume.ErrInUse, "`containr rm -v CONTAINER` removes a container and its volumes without a name; `containr volume rm` those with one"},
	{volume.ErrNotFound, "`containr volume ls` lists volumes, `containr volume create` makes one"},
	{volume.ErrExists, "choose another name, or remove that one with `containr volume rm`"},
	{networks.ErrExists, "choose another name, or remove that one with `containr network rm`"},
	{engine.ErrCannotHold, "--pause=false copies while it runs, and what it writes may be half in the copy; `containr doctor` says what gives containers a control group"},
	{runtime.ErrNoGroup, "`containr doctor` says what gives containers a control group; those that run now have to be started again"},
	{shell.ErrNetwork, "`--network none` behind `run` leaves the network out"},
	{engine.ErrPaused, "`containr unpause` lets it go on"},
	{engine.ErrForeground, "run it with --log-driver json-file, with -t or without --rm to attach; or use `containr exec`"},
	{engine.ErrNoJournal, "choose --log-driver json-file or syslog"},
	{engine.ErrNoSyslog, "name a server with --log-opt syslog-address=udp://HOST, or choose --log-driver json-file"},
	{engine.ErrNoGPU, "have the driver's tools describe them (`nvidia-ctk cdi generate`), or name the directory of the descriptions with --cdi-spec-dir"},
	{cdi.ErrUnknown, "look into the vendor's files, or name their directory with --cdi-spec-dir"},
	{engine.ErrNotShareable, "make that container with --ipc shareable"},
	{host.ErrNoSubIDs, "a line grants some: echo containers:2147483648:2147418112 | sudo tee -a /etc/subuid /etc/subgid (containr:100000:65536 for --userns-remap default)"},
	{engine.ErrNoAutoIDs, "`containr container prune` gives back those of containers that have ended; --userns auto:size=N asks for fewer"},
	{engine.ErrNeedsIDMaps, "name a directory on ext4, xfs or btrfs with --root, or give --uidmap and --gidmap"},
	{engine.ErrOtherUsers, "leave out --uidmap, --gidmap and --userns: the users are then shared too"},
	{engine.ErrCannotWrite, "`containr cp` puts files into it; `containr start` runs it"},
	{engine.ErrNoLogs, "make it with --log-driver json-file or local"},
	{container.ErrAmbiguous, "type more of the id"},
	{image.ErrAmbiguous, "type more of the id, or a name; `containr rmi -f ID` removes an image with all its names"},
	{monitor.ErrNoProgram, "`make` builds containr-monitor; it belongs beside containr"},
	{registry.ErrUnreachable, "check the registry's name and the network"},
	{registry.ErrUnauthorized, "log in with `containr login`, or check the name: registries do not tell the two apart"},
	{registry.ErrPlainHTTP, "--plain-http speaks HTTP with it, once; insecure = true in registries.toml always"},
	{registry.ErrOffline, "leave out --offline, or unset CONTAINR_OFFLINE"},
	{credential.ErrNone, "`containr login` logs in"},
	{hosts.ErrConfig, "the book's chapter on images describes registries.toml and what else is read"},
	{registry.ErrBusy, "it lets through only so much: wait, or log in, for which many registries have higher limits"},
	{registry.ErrIncomplete, "`containr pull --all-platforms` fetches all of it; --platform pushes one image"},
	{registry.ErrNotFound, "check the name and the tag"},
	{image.ErrPlatform, "choose another one with --platform"},
	{image.ErrInUse, "`containr rmi -f` removes the image's name all the same"},
	{image.ErrOnlyPlatform, "`containr rmi` without --platform removes the whole image"},
	{container.ErrNoBridge, "create a network, by `containr network create NAME`, and choose it with --network NAME"},
	{trust.ErrPolicy, "the message names the file of the policy; the book's chapter on images says what is in it"},
	{trust.ErrPolicyFile, "see containers-policy.json(5); a word that is unknown is refused, as it may be a condition"},
	{image.ErrNotArtifact, "`containr artifact ls` lists artifacts; images have `containr pull`, `images` and `rmi`"},
	{engine.ErrNotMounted, "`containr image mount` lists what is mounted"},
	{image.ErrNotFound, "`containr images` lists what there is; `containr pull` fetches more"},
	{image.ErrReference, "a name looks like registry.example/path/name:tag, all in small letters"},
	{baseimage.ErrMissing, "or pull an image from a registry"},
	{engine.ErrDockerDaemon, "check with `docker images`; DOCKER_HOST=unix:///PATH names another socket"},
	{engine.ErrNoSkopeo, "install it, or use `podman save` and `containr load`, and back `containr save` and `podman load`"},
	{unix.EBADMSG, damagedLayer},
	{unix.EUCLEAN, damagedLayer},
	{snapshot.ErrNoErofs, "`containr --snapshotter erofs doctor` says what is missing; without it, containr rmi IMAGE and containr pull IMAGE unpack it anew, as directories"},
	{host.ErrSnapshotter, "leave --snapshotter out: the best one that can be used here is taken, and `containr doctor` says which and why"},
	{host.ErrOldKernel, "Debian 11, Ubuntu 22.04 and RHEL 9 have newer ones"},
	{unix.ENOSPC, "make room: `containr system df` says what is there, `containr system prune` removes what nobody needs; or choose another disk with --root"},
	{unix.EROFS, "choose a directory on another file system; --root does so for what containr keeps"},
	{fs.ErrPermission, "run as root, or choose a directory of your own with --root"},
}

const damagedLayer = "a layer is damaged, or the disk is: `containr system check` says which layers are, and with --repair removes them, to be unpacked again"

func hintFor(err error) string {
	var usage *usageError
	if errors.As(err, &usage) && usage.hint != "" {
		return usage.hint
	}
	var nothing *nothingError
	if errors.As(err, &nothing) {
		return cmp.Or(nothing.hint, "`containr ps -a` lists containers, `containr images` images")
	}
	var form *present.Error
	if errors.As(err, &form) && form.Hint != "" {
		return form.Hint
	}
	var program *engine.ProgramError
	if errors.As(err, &program) {
		return program.Hint()
	}
	var several *engine.AmbiguousError
	if errors.As(err, &several) {
		return "choose one with --type spdx or cyclonedx; `containr image referrers` lists all, and `containr artifact pull` fetches one by its digest"
	}
	var missing *engine.NotFoundError
	if errors.As(err, &missing) && missing.Near != "" {
		return "did you mean " + missing.Near + "?"
	}
	var noVolume *volume.NotFoundError
	if errors.As(err, &noVolume) && noVolume.Near != "" {
		return "did you mean " + noVolume.Near + "?"
	}
	var noSecret *secret.NotFoundError
	if errors.As(err, &noSecret) && noSecret.Near != "" {
		return "did you mean " + noSecret.Near + "?"
	}
	var notInIt *image.NotInSourceError
	if errors.As(err, &notInIt) {
		if len(notInIt.Have) == 0 {
			return "leave the name out"
		}
		return "name one of those, or none if it is the only one"
	}
	var noPlugins *cni.NotFoundError
	if errors.As(err, &noPlugins) && noPlugins.Near != "" {
		return "did you mean " + noPlugins.Near + "?"
	}
	var noNetwork *networks.NotFoundError
	if errors.As(err, &noNetwork) && noNetwork.Near != "" {
		return "did you mean " + noNetwork.Near + "?"
	}
	if hint := certificateHint(err); hint != "" {
		return hint
	}
	if hint := runtime.Hint(err); hint != "" {
		return hint
	}
	var file *fs.PathError
	if errors.As(err, &file) && file.Path == os.Stdout.Name() && errors.Is(err, unix.ENOSPC) {
		return "what standard output goes to is full" // the state root need not be
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.text
		}
	}
	return ""
}

// certificateHint says what to do when a registry's certificate is not believed.
func certificateHint(err error) string {
	var e *registry.Error
	var stranger x509.UnknownAuthorityError
	var other x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case !errors.As(err, &e):
	case errors.As(err, &stranger):
		dir := "/etc/containr"
		if os.Geteuid() != 0 {
			dir = "~/.config/containr"
		}
		return fmt.Sprintf("if it is to be trusted, put the certificate of its authority into %s/certs.d/%s/ca.crt; --tls-verify=false asks for none", dir, e.Registry)
	case errors.As(err, &other):
		return "ask it by a name that its certificate has"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "see with `date` whether this machine's clock is right; if it is, the registry needs a new certificate"
	}
	return ""
}

// commandNames lists the names of the commands of the first level.
func commandNames() []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	return names
}

func namesOf(commands []*cobra.Command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Name())
	}
	return names
}

// unknownCommand is the error for a command of cmd that is none of names.
func unknownCommand(cmd *cobra.Command, name string, names []string) error {
	path := strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), "containr") + " " + name)
	e := &usageError{text: fmt.Sprintf("unknown command %q", path)}
	e.hint = fmt.Sprintf("`%s --help` lists the commands", cmd.CommandPath())
	switch near := spelling.Nearest(name, names); {
	case insteadOf[path] != "": // a word of docker's is no typing error
		e.hint = insteadOf[path]
	case near != "":
		e.hint = "did you mean " + near + "?"
	}
	return e
}

// groupOfCommands is what a command does that only holds others: it lists them.
func groupOfCommands(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return unknownCommand(cmd, args[0], namesOf(cmd.Commands()))
	}
	return cmd.Help()
}

const (
	buildElsewhere = "build the image elsewhere, and take it in with `containr load` or `containr pull`"
	oneMachine     = "containr runs containers of one machine, with `containr run`; `containr secret` and `containr config` work without a swarm"
)

// insteadOf says what to do instead of what docker has and containr has not: commands
// with those above them, and flags of run with their dashes. docs/compatibility.md says the same of commands.
var insteadOf = map[string]string{
	"build":      buildElsewhere,
	"builder":    "there is no build cache to keep: " + buildElsewhere,
	"buildx":     buildElsewhere,
	"bake":       buildElsewhere,
	"checkpoint": "containr-runtime has checkpoint and restore, for bundles",
	"compose":    "start each container with `containr run`",
	"context":    "there is no daemon to choose; --root chooses where containers and images are kept",
	"plugin":     "there are no managed plugins: `containr volume create --driver NAME` finds a volume plugin by its socket, --network cni:NAME uses those of CNI",
	"swarm":      oneMachine,
	"node":       oneMachine,
	"service":    oneMachine,
	"stack":      oneMachine,
	"trust":      "docker calls it retired; `containr pull` checks signatures by policy.json, see the book's chapter on images",

	"image build":   buildElsewhere,
	"system events": "it is called `containr events`",

	"list": "`containr ps` lists containers, `containr images` images",
	"ls":   "`containr ps` lists containers, `containr images` images",

	"volume create: --size": "-o size=SIZE limits what it may take, such as -o size=10g",

	"--link":    "containers of a network find each other by name: `containr network create NAME`, then --network NAME for each",
	"--runtime": "containr is its own runtime; docker takes containr-runtime as one of its own",
}

// flagError puts the errors of the flag parser into our words.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	command := "" // what a message begins with: the flags of containr itself have none
	if cmd.HasParent() {
		command = strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ") + ": "
	}
	switch {
	case errors.As(err, &unknown):
		return unknownFlag(cmd, command, unknown)
	case errors.As(err, &missing):
		return &usageError{text: fmt.Sprintf("%s%s needs a value", command, flagName(missing.GetFlag())), err: err}
	case errors.As(err, &invalid):
		text := fmt.Sprintf("%s%s: %v", command, flagName(invalid.GetFlag()), inWords(errors.Unwrap(invalid)))
		return &usageError{text: text, err: errors.Unwrap(invalid)}
	}
	return &usageError{text: fmt.Sprintf("%s%v", command, err), err: err}
}

// inWords says what Go's functions do not like about a number or a truth value.
func inWords(err error) error {
	var bad *strconv.NumError
	switch {
	case !errors.As(err, &bad):
		return err
	case bad.Func == "ParseBool":
		return fmt.Errorf("%q is neither true nor false", bad.Num)
	case errors.Is(bad, strconv.ErrRange):
		return fmt.Errorf("%s is out of range", bad.Num)
	}
	return fmt.Errorf("%q is no number", bad.Num)
}

func flagName(f *pflag.Flag) string { return "--" + f.Name }

func unknownFlag(cmd *cobra.Command, command string, unknown *pflag.NotExistError) error {
	name := unknown.GetSpecifiedName()
	dashes := "--"
	if unknown.GetSpecifiedShortnames() != "" {
		dashes = "-"
	}
	e := &usageError{text: fmt.Sprintf("%sunknown flag %s%s", command, dashes, name), err: unknown}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	e.hint = fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())
	near := spelling.Nearest(name, known)
	switch {
	case insteadOf[command+dashes+name] != "":
		e.hint = insteadOf[command+dashes+name]
	case cmd.Name() == "run" && insteadOf[dashes+name] != "":
		e.hint = insteadOf[dashes+name]
	case near != "" && len(name) > 1:
		e.hint = "did you mean --" + near + "?"
	}
	return e
}

// exactArgs, minArgs and rangeArgs check the number of arguments.
func exactArgs(n int) cobra.PositionalArgs { return rangeArgs(n, n) }

func minArgs(n int) cobra.PositionalArgs { return rangeArgs(n, -1) }

func rangeArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		e := &usageError{text: fmt.Sprintf("%s: too many arguments: %s", pathOf(cmd), strings.Join(args, " "))}
		if len(args) < least {
			e.text = pathOf(cmd) + ": an argument is missing"
		}
		e.hint = "usage: " + cmd.UseLine()
		return e
	}
}

// pathOf is a command's name with those of the commands above it, but containr's.
func pathOf(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// exclusive refuses more than one of some flags.
func exclusive(cmd *cobra.Command, names ...string) error {
	var given []string
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 1 {
		return usageErrorf("%s: %s exclude each other", pathOf(cmd), strings.Join(given, " and "))
	}
	return nil
}

// absolute makes a path absolute; an empty one stays empty.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
