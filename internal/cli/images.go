package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

func (p *Program) removeImageCommand() *cobra.Command {
	var req engine.RemoveImageRequest
	cmd := &cobra.Command{
		Use:     "rmi [FLAGS] IMAGE...",
		Short:   "Remove images",
		GroupID: groupImages,
		Long: "Remove names of images; with its last name an image goes, and what nothing else needs. With --platform the\n" +
			"name stays, and the other platforms do; what another image has too goes with --force alone, from both.",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := exclusive(cmd, "no-prune", "platform"); err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			for _, name := range args {
				req.Name = name
				removed, err := e.RemoveImage(cmd.Context(), req)
				if err == nil {
					err = p.printRemoved(removed)
				}
				failures = append(failures, err)
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVarP(&req.Force, "force", "f", false, "remove it though it has several names or containers")
	cmd.Flags().BoolVar(&req.KeepContent, "no-prune", false, "leave the content that nothing needs for the next prune")
	cmd.Flags().StringVar(&req.Platform, "platform", "", "remove what the image has for `OS/ARCH[/VARIANT]` alone")
	return cmd
}

func (p *Program) printRemoved(r *image.Removed) error {
	for _, name := range r.Untagged {
		fmt.Fprintln(p.Out, "Untagged:", name)
	}
	for _, blob := range r.Deleted {
		if _, err := fmt.Fprintln(p.Out, "Deleted:", blob); err != nil {
			return err
		}
	}
	return nil
}

func (p *Program) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image COMMAND",
		Short:   "Look at images, and what else is done with them",
		GroupID: groupImages,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	cmd.AddCommand(p.imageInspectCommand(), p.imageTreeCommand(), p.imageReferrersCommand(), p.imageDiffCommand(), p.imageExistsCommand(), p.imageCopyCommand(), p.imageSyncCommand(),
		p.imagePackCommand(), p.imageUnpackCommand(), p.imageRepackCommand(), p.imageConfigCommand(),
		p.imageExportCommand(), p.imageMountCommand(), p.imageUmountCommand(), p.imagePruneCommand(),
		within("history", p.historyCommand()), within("save", p.saveCommand()), within("untag", p.untagCommand()),
		within("ls", p.imagesCommand()), within("rm", p.removeImageCommand()), within("pull", p.pullCommand()), within("push", p.pushCommand()),
		within("load", p.loadCommand()), within("import", p.importCommand()), within("tag", p.tagCommand()))
	return cmd
}

// within makes a command of the first level one of `image`, where docker has it too.
func within(name string, cmd *cobra.Command) *cobra.Command {
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	cmd.Use, cmd.GroupID = name+" "+arguments, ""
	cmd.Aliases = alsoCalled[name]
	return cmd
}

// alsoCalled are docker's other names of commands in groups.
var alsoCalled = map[string][]string{"ls": {"list"}, "rm": {"remove"}}

func (p *Program) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "tag IMAGE NAME",
		Short:   "Give an image a further name",
		GroupID: groupImages,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			return e.Tag(cmd.Context(), engine.TagRequest{Source: args[0], Target: args[1]})
		},
	}
}

func (p *Program) untagCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "untag IMAGE [NAME...]",
		Short:   "Take names away from an image, which stays",
		GroupID: groupImages,
		Long: "Take names away from an image: those that are given, or, as podman does, all that it has: IMAGE says which image, not which\n" +
			"name. The image stays, also without a name.",
		Example: "  containr untag app:2 app:1\n  containr untag app:1 app:1",
		Args:    minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			names, err := e.Untag(cmd.Context(), engine.UntagRequest{Image: args[0], Names: args[1:]})
			if err != nil {
				return err
			}
			return p.printRemoved(&image.Removed{Untagged: names})
		},
	}
}

func (p *Program) imageExistsCommand() *cobra.Command {
	var req engine.InspectRequest
	cmd := &cobra.Command{
		Use:                   "exists [FLAGS] IMAGE",
		Short:                 "Exit with status 0 if an image is in the store, else 1",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name = args[0]
			exists, err := e.ImageExists(cmd.Context(), req)
			if err == nil && !exists {
				err = &statusError{status: statusFailed}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&req.Platform, "platform", "", "the image for `OS/ARCH[/VARIANT]`")
	return cmd
}

func (p *Program) imagePruneCommand() *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [FLAGS]",
		Short: "Remove images that nobody needs",
		Long: "Remove the images without a name of which no container was made, and what crashes have left.\n\n" +
			"Filters are until=TIME (made before), label=NAME[=VALUE], label!=NAME[=VALUE] and dangling=false, which is --all.",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			doomed, named, err := prunable(cmd.Context(), e, filters, all)
			if err != nil {
				return err
			}
			what := "all images without a name"
			if named {
				what = "all images of which no container was made"
			}
			if err := p.confirm(cmd.Context(), "prune", what, force); err != nil {
				return err
			}
			removed, err := e.PruneImages(cmd.Context(), engine.PruneImagesRequest{Doomed: doomed})
			if err != nil {
				return err
			}
			return p.printPruned(removed)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove images with a name too, if no container was made of them")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "remove only what `KEY=VALUE` fits")
	return cmd
}

// prunable makes a predicate of the flags of prune, and says whether images with a name are meant, too.
func prunable(ctx context.Context, e *engine.Engine, filters []string, all bool) (doomed func(image.Listed) bool, named bool, err error) {
	f, err := present.ParseFilters(filters, "until", "label", "label!", "dangling")
	if err != nil {
		return nil, false, err
	}
	dangling, given, err := f.Bool("dangling")
	if err != nil {
		return nil, false, err
	}
	all = all || given && !dangling
	var others []string
	for _, v := range filters {
		if !strings.HasPrefix(v, "dangling=") {
			others = append(others, v)
		}
	}
	pass, err := imageFilter(ctx, e, others, "until", "label", "label!")
	if err != nil {
		return nil, false, err
	}
	return func(l image.Listed) bool {
		// What is no container image was put here by another tool, on purpose.
		return (l.Name == "" || all && !errors.Is(l.Err, image.ErrArtifact)) && pass(l)
	}, all, nil
}

// confirm asks before something is removed for good. Where nobody can answer, --force must have been given.
func (p *Program) confirm(ctx context.Context, verb, what string, force bool) error {
	if force {
		return nil
	}
	if !tty.IsTerminal(p.In) {
		return &usageError{text: verb + ": would remove " + what + ", and nobody is there to agree", hint: "--force removes without asking"}
	}
	p.awaitCatching()
	answer, err := tty.Ask(ctx, p.In, p.Err, fmt.Sprintf("This removes %s. Go on? [y/N] ", what), false)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &statusError{status: statusFailed, err: errors.New("nothing was removed")}
}

func (p *Program) printPruned(removed *image.Removed) error {
	if err := p.printRemoved(removed); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.Out, "Total reclaimed space: %s\n", present.Size(removed.Freed))
	return err
}
