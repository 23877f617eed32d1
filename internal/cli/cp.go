package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) copyFilesCommand() *cobra.Command {
	return p.copyCommand(inContainer, &cobra.Command{
		Use:     "cp [FLAGS] [CONTAINER:]SOURCE [CONTAINER:]TARGET",
		Short:   "Copy files between containers and the host",
		GroupID: groupRun,
		Long: "Copy a file or a directory between a container, which need not run, and the host, or another\n" +
			"container. - in the place of a path of the host is a tar archive on standard input or output.\n\n" +
			"Paths in a container count from its root. A directory is copied into a TARGET that is there, and to\n" +
			"a TARGET that is not; SOURCE/. is what is in it. Copies belong to root in a container and to you on\n" +
			"the host, and lose set-user-ID and set-group-ID bits, unless --archive: else any user's program\n" +
			"could become one with root's rights. (docker cp keeps these bits and most owners, and -a means the\n" +
			"container's user there.) A symbolic link is copied as one, unless --follow-link or a slash behind it.\n" +
			"Devices are refused, sockets left out.",
		Example: "  containr cp web:/etc/nginx/nginx.conf .\n" +
			"  containr cp site/. web:/srv/www\n" +
			"  containr cp web:/var/log - | tar t",
	})
}

func (p *Program) volumeCopyFilesCommand() *cobra.Command {
	return p.copyCommand(inVolume, &cobra.Command{
		Use:   "cp [FLAGS] [VOLUME:]SOURCE [VOLUME:]TARGET",
		Short: "Copy files between volumes and the host",
		Long: "Copy a file or a directory between a volume and the host, or another volume. - in the place of a path of\n" +
			"the host is a tar archive on standard input or output. Containers may run with the volume.\n\n" +
			"Paths in a volume count from its top, and so do the links in it: none leads out. A directory is copied into\n" +
			"a TARGET that is there, and to a TARGET that is not; SOURCE/. is what is in it. Copies in a volume belong to\n" +
			"root, those on the host to you, and they lose set-user-ID and set-group-ID bits, unless --archive. A symbolic\n" +
			"link is copied as one, unless --follow-link or a slash behind it. Devices are refused, sockets left out.\n\n" +
			"In a volume each file appears when it is whole: one that is killed leaves every file as it was or as it was\n" +
			"to be. A snapshot, VOLUME@NAME, can be copied from.",
		Example: "  containr volume cp settings.json conf:/\n" +
			"  containr volume cp data@monday:/reports/. reports\n" +
			"  containr volume cp data:/ - | tar t",
	})
}

// copyCommand is a command that copies between the host and what kind says.
func (p *Program) copyCommand(kind copySide, cmd *cobra.Command) *cobra.Command {
	var req engine.CopyFilesRequest
	var quiet bool
	cmd.Args, cmd.DisableFlagsInUseLine = exactArgs(2), true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := p.readPlaces(cmd.Context(), &req, args, kind); err != nil {
			return err
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		n, err := e.CopyFiles(cmd.Context(), req)
		if err != nil || quiet || req.To.Out != nil {
			return err
		}
		_, err = fmt.Fprintf(p.Err, "Successfully copied %s to %s\n", present.Size(n), args[1])
		return err
	}
	cmd.Flags().BoolVarP(&req.Archive, "archive", "a", false, "keep owners, set-user-ID and set-group-ID bits and extended attributes")
	cmd.Flags().BoolVarP(&req.Follow, "follow-link", "L", false, "copy what a symbolic link SOURCE leads to")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not say what was copied")
	return cmd
}

// copySide is what a name before a colon means in a copy.
type copySide struct {
	command, what string
	place         func(name, path string) engine.FilePlace
}

var (
	inContainer = copySide{"cp", "container", func(name, path string) engine.FilePlace { return engine.FilePlace{Container: name, Path: path} }}
	inVolume    = copySide{"volume cp", "volume", func(name, path string) engine.FilePlace { return engine.FilePlace{Volume: name, Path: path} }}
)

// readPlaces reads the two sides of a copy.
func (p *Program) readPlaces(ctx context.Context, req *engine.CopyFilesRequest, args []string, kind copySide) error {
	from, err := kind.read(args[0])
	if err != nil {
		return err
	}
	to, err := kind.read(args[1])
	if err != nil {
		return err
	}
	req.From, req.To = from, to
	isHost := func(p engine.FilePlace) bool { return p.Container == "" && p.Volume == "" }
	switch {
	case isHost(from) && isHost(to):
		return &usageError{text: kind.command + ": neither side is in a " + kind.what, hint: "write " + strings.ToUpper(kind.what) + ":PATH for a path in one"}
	case args[0] == "-" && tty.IsTerminal(p.In):
		return &usageError{text: kind.command + ": standard input is a terminal, not an archive", hint: "redirect it from a file"}
	case args[1] == "-" && tty.IsTerminal(p.Out):
		return &usageError{text: kind.command + ": standard output is a terminal, which cannot show an archive", hint: "redirect it"}
	case args[0] == "-":
		req.From = engine.FilePlace{In: p.input(ctx)}
	case args[1] == "-":
		req.To = engine.FilePlace{Out: p.Out}
	}
	return nil
}

// read reads one side: NAME:PATH, or a path of the host, which may hold colons if it begins with
// / or a dot.
func (k copySide) read(arg string) (engine.FilePlace, error) {
	name, inside, ok := strings.Cut(arg, ":")
	switch {
	case arg == "", ok && inside == "":
		return engine.FilePlace{}, usageErrorf("%s: %q: the path is missing", k.command, arg)
	case ok && name != "" && !strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, "."):
		return k.place(name, inside), nil
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return engine.FilePlace{}, err
	}
	switch { // which Abs takes away
	case arg == "." || strings.HasSuffix(arg, "/."):
		abs += "/."
	case strings.HasSuffix(arg, "/"):
		abs += "/"
	}
	return engine.FilePlace{Path: abs}, nil
}
