package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/volume"
)

// pauseFlag is that of commands that pause who runs with what they copy, as commit has it.
func pauseFlag(flags *pflag.FlagSet) *bool {
	return flags.BoolP("pause", "p", true, "pause the containers meanwhile; with --pause=false what they write may be half in the copy")
}

func (p *Program) volumeCloneCommand() *cobra.Command {
	var pause *bool
	cmd := &cobra.Command{
		Use: "clone [FLAGS] VOLUME NEW", Short: "Make a volume with the content of another", Args: exactArgs(2), DisableFlagsInUseLine: true,
		Long: "Make a volume with the content of another. Containers that run with that one are paused meanwhile, and those that\n" +
			"start with it wait. Where the file system can share blocks the copy takes no room.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			v, err := e.CloneVolume(cmd.Context(), args[0], args[1], !*pause)
			if err == nil {
				_, err = fmt.Fprintln(p.Out, v.Name)
			}
			return err
		},
	}
	pause = pauseFlag(cmd.Flags())
	return cmd
}

func (p *Program) volumeSnapshotCommand() *cobra.Command {
	var pause *bool
	cmd := &cobra.Command{
		Use: "snapshot [FLAGS] VOLUME [NAME]", Short: "Keep the content of a volume as it is now", Args: rangeArgs(1, 2), DisableFlagsInUseLine: true,
		Long: "Keep the content of a volume as it is now, and print what it is called: VOLUME@NAME; the name is made of the time if\n" +
			"it is left out. Containers that run with the volume are paused meanwhile, and those that start with it wait. A\n" +
			"snapshot can be mounted, read-only, as a volume can, and is removed by `containr volume rm`; no prune takes it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 1 {
				name = args[1]
			}
			v, err := e.SnapshotVolume(cmd.Context(), args[0], name, !*pause)
			if err == nil {
				_, err = fmt.Fprintln(p.Out, v.Name)
			}
			return err
		},
	}
	pause = pauseFlag(cmd.Flags())
	return cmd
}

func (p *Program) volumeRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore VOLUME@NAME", Short: "Make a volume what it was when a snapshot was made", Args: restoreArgs, DisableFlagsInUseLine: true,
		Long: "Make a volume what it was when a snapshot was made. No container may run with it. What is in the volume is lost; the\n" +
			"snapshot stays.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			name, err := e.RestoreVolume(cmd.Context(), args[0])
			switch {
			case err == nil:
				_, err = fmt.Fprintln(p.Out, name)
			case errors.Is(err, volume.ErrNotFound):
				if _, kept := e.Volume(cmd.Context(), args[0]); kept == nil { // only what it is to be put back into is gone
					err = &statusError{statusFailed, &usageError{text: err.Error(), hint: fmt.Sprintf("`containr volume clone %s %s` makes it anew", args[0], name), err: err}}
				}
			}
			return err
		},
	}
}

// restoreArgs takes one snapshot, and knows who says it in two words, as `volume snapshot` has it.
func restoreArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 2 && !strings.Contains(args[0], "@") {
		return &usageError{text: "volume restore: too many arguments: " + strings.Join(args, " "), hint: fmt.Sprintf("a snapshot is named in one word: `containr volume restore %s@%s`", args[0], args[1])}
	}
	return exactArgs(1)(cmd, args)
}

func (p *Program) volumeExportCommand() *cobra.Command {
	var output string
	var pause *bool
	cmd := &cobra.Command{
		Use: "export [FLAGS] VOLUME", Short: "Write the content of a volume as a tar archive", Args: exactArgs(1), DisableFlagsInUseLine: true,
		Long: "Write the content of a volume as a tar archive, to standard output or a file. Containers that run with the volume are\n" +
			"paused meanwhile, and those that start with it wait.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return p.writeTo("volume export", output, func(w io.Writer) error { return e.ExportVolume(cmd.Context(), args[0], !*pause, w) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to `FILE`")
	pause = pauseFlag(cmd.Flags())
	return cmd
}

func (p *Program) volumeImportCommand() *cobra.Command {
	var limit int64
	cmd := &cobra.Command{
		Use: "import [FLAGS] VOLUME [FILE]", Short: "Make a volume of a tar archive", Args: rangeArgs(1, 2), DisableFlagsInUseLine: true,
		Long: "Make a volume of a tar archive: a file, or standard input. If it fails there is no volume.\n" +
			"An ordinary user needs to be granted the ids of its owners (/etc/subuid); who is granted none has all in it belong to\n" +
			"root in his containers, without set-user-ID and set-group-ID bits.",
		RunE: func(cmd *cobra.Command, args []string) error {
			from := "-"
			if len(args) > 1 {
				from = args[1]
			}
			if from == "-" && tty.IsTerminal(p.In) {
				return &usageError{text: "volume import: standard input is a terminal, not an archive", hint: "name a file behind the volume"}
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			var in io.Reader
			if from == "-" {
				in = p.input(cmd.Context())
			} else {
				f, err := os.Open(from)
				if err != nil {
					return fmt.Errorf("volume import %s: %w", args[0], err)
				}
				defer f.Close()
				in = f
			}
			v, err := e.ImportVolume(cmd.Context(), args[0], in, limit)
			switch {
			case err == nil:
				_, err = fmt.Fprintln(p.Out, v.Name)
			case errors.Is(err, engine.ErrArchiveTooLarge):
				err = fmt.Errorf("volume import %s: more than --max-size %s: %w", args[0], cmd.Flag("max-size").Value, err)
			case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
				text := fmt.Sprintf("volume import: archive %s: %v", from, err)
				err = &statusError{statusFailed, &usageError{text: text, hint: "`tar -tvf FILE` lists what is in an archive", err: err}}
			}
			return err
		},
	}
	binder{cmd.Flags(), ""}.value("max-size", "", "refuse an archive of more than `SIZE`", put(&limit, container.ParseSize))
	return cmd
}
