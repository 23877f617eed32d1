package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) whereCommand() *cobra.Command {
	var container, format string
	cmd := &cobra.Command{
		Use:     "where [FLAGS] PATH...|CONTAINER:PATH...",
		Short:   "Say where a path of a container lives, and whether it outlives it",
		GroupID: groupRun,
		Long: "Say on which layer or mount a path of a container lives, what it is called on the host, and whether it\n" +
			"is still there after `containr rm`. The container need not run. Paths count from its root; links are\n" +
			"followed inside it, and named. Of a path where nothing is: where it would be written to.",
		Example: "  containr where /var/lib/mysql --in db\n" +
			"  containr where web:/var/log db:/var/lib/mysql\n" +
			"  containr where /etc/passwd --in web --format '{{.Host}}'",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			places, err := placesOf(args, container)
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			var all []*engine.Whereabouts
			for _, x := range places {
				w, err := e.Where(cmd.Context(), x.container, x.path)
				if err != nil {
					return err
				}
				all = append(all, w)
			}
			if format != "" {
				return present.Documents(p.text(), format, all)
			}
			for _, w := range all {
				if err := p.printWhereabouts(w); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&container, "in", "", "the `CONTAINER` of the paths that name none")
	cmd.Flags().StringVar(&format, "format", "", "print as json, or as a `TEMPLATE` (Go's)")
	return cmd
}

// pathIn is a path of a container.
type pathIn struct{ container, path string }

// placesOf reads PATH, in the container of --in, or CONTAINER:PATH as cp has it.
func placesOf(args []string, in string) ([]pathIn, error) {
	var places []pathIn
	for i, arg := range args {
		name, path, both := strings.Cut(arg, ":")
		switch both = both && name != "" && !strings.Contains(name, "/"); {
		case in != "":
			places = append(places, pathIn{in, arg})
		case both:
			places = append(places, pathIn{name, path})
		default:
			e := &usageError{text: "where: in which container?", hint: "say CONTAINER:" + arg + ", or name it by --in CONTAINER"}
			if i == 0 && !strings.Contains(arg, "/") && len(args) > 1 {
				e.hint = "if " + arg + " is the container: containr where --in " + arg + " " + strings.Join(args[1:], " ")
			}
			return nil, e
		}
	}
	return places, nil
}

// printWhereabouts prints what is known of a path, one thing in a line.
func (p *Program) printWhereabouts(w *engine.Whereabouts) error {
	var b strings.Builder
	line := func(title, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %-10s %s\n", title+":", text)
		}
	}
	b.WriteString(present.CleanLine(w.Path) + "\n")
	for _, link := range w.Links {
		line("link", present.CleanLine(link))
	}
	if w.Real != w.Path {
		line("is", present.CleanLine(w.Real))
	}
	line("lives", present.CleanLine(livesIn(w)))
	line("host", present.CleanLine(w.Host))
	survives := "no: "
	if w.Survives {
		survives = "yes: "
	}
	line("after rm", survives+w.Why)
	_, err := p.Out.Write([]byte(b.String()))
	return err
}

// livesIn says on what a path is.
func livesIn(w *engine.Whereabouts) string {
	layer := fmt.Sprintf("layer %d of %d of the image, %s", w.Layer, w.Layers, w.Name)
	on := ""
	switch w.Kind {
	case engine.OnImage:
		on = "in " + layer
	case engine.OnLayer:
		on = "in the container's own layer"
		switch {
		case w.Removed:
			on += fmt.Sprintf(", where it is removed; layer %d of %d of the image has it", w.Layer, w.Layers)
		case w.Layer > 0:
			on += fmt.Sprintf(", changed; layer %d of %d of the image has it too", w.Layer, w.Layers)
		}
	case engine.OnRootfs:
		on = "in the directory " + w.Name
	case engine.OnVolume:
		on = "on the volume " + w.Name
	case engine.OnBind:
		on = "on " + w.Name + " of the host"
	case engine.OnPicture:
		on = "on the image " + w.Name
	case engine.OnTmpfs:
		on = "in memory"
	case engine.OnFile:
		on = "in a file that containr made for the container"
	case engine.OnSecret:
		on = "in memory, as a secret"
	case engine.OnSystem, engine.OnOther:
		on = "on a file system of type " + w.Name
	}
	if w.Mountpoint != "/" {
		on += ", mounted on " + w.Mountpoint
	}
	if w.ReadOnly {
		on += ", read-only"
	}
	if !w.Exists && !w.Removed {
		on += "; nothing is there"
	}
	return on
}
