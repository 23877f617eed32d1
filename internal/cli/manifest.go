package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) manifestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "manifest COMMAND",
		Short:   "Make lists of images for several platforms",
		GroupID: groupImages,
		Long: "Make lists of images for several platforms: one name, of which every machine gets its image. A list is an\n" +
			"image index of OCI; it is in the store under its name, as other images are.",
		Args: cobra.ArbitraryArgs,
		RunE: groupOfCommands,
	}
	push := within("push", p.pushCommand())
	push.Short = "Send a list, with its images, to a registry"
	all := push.Flags().Lookup("all-platforms")
	if err := all.Value.Set("true"); err == nil { // by FlagSet.Set it would seem to have been typed
		all.DefValue = "true"
	}
	remove := within("rm", p.removeImageCommand())
	remove.Use, remove.Short = "rm LIST...", "Remove lists"
	cmd.AddCommand(p.manifestCreateCommand(), p.manifestAddCommand(), p.manifestAnnotateCommand(), p.manifestRemoveCommand(),
		p.manifestInspectCommand(), push, remove)
	return cmd
}

// listCommand makes one of the commands that change a list.
func (p *Program) listCommand(use, short string, args cobra.PositionalArgs, do func(*engine.Engine, *cobra.Command, engine.ListRequest) (digest.Digest, error)) (*cobra.Command, *engine.ListRequest, *[]string) {
	req := &engine.ListRequest{}
	annotations := &[]string{}
	cmd := &cobra.Command{
		Use:                   use,
		Short:                 short,
		Args:                  args,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range *annotations {
				key, value, ok := strings.Cut(a, "=")
				if !ok || key == "" {
					return usageErrorf("%s: --annotation %s: it is not KEY=VALUE", cmd.Name(), a)
				}
				if req.Annotations == nil {
					req.Annotations = map[string]string{}
				}
				req.Annotations[key] = value
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.List, req.Images = args[0], args[1:]
			d, err := do(e, cmd, *req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, d)
			return err
		},
	}
	return cmd, req, annotations
}

// bindEntry adds the flags that say what a list says of an image.
func bindEntry(cmd *cobra.Command, r *engine.ListRequest, annotations *[]string) {
	cmd.Flags().StringVar(&r.Platform.OS, "os", "", "it runs on `OS`")
	cmd.Flags().StringVar(&r.Platform.Architecture, "arch", "", "it runs on `ARCH`itecture")
	cmd.Flags().StringVar(&r.Platform.Variant, "variant", "", "it runs on `VARIANT` of the architecture")
	cmd.Flags().StringVar(&r.Platform.OSVersion, "os-version", "", "it runs on `VERSION` of the operating system")
	cmd.Flags().StringSliceVar(&r.Platform.OSFeatures, "os-features", nil, "it needs `FEATURE` of the operating system")
	cmd.Flags().StringArrayVar(annotations, "annotation", nil, "note `KEY=VALUE` beside it")
}

func (p *Program) manifestCreateCommand() *cobra.Command {
	cmd, req, _ := p.listCommand("create [FLAGS] LIST IMAGE...", "Make a list of images", minArgs(2),
		func(e *engine.Engine, cmd *cobra.Command, r engine.ListRequest) (digest.Digest, error) {
			return e.CreateList(cmd.Context(), r)
		})
	cmd.Flags().BoolVarP(&req.Amend, "amend", "a", false, "add to the list if it exists")
	return cmd
}

func (p *Program) manifestAddCommand() *cobra.Command {
	cmd, req, annotations := p.listCommand("add [FLAGS] LIST IMAGE...", "Add images to a list", minArgs(2),
		func(e *engine.Engine, cmd *cobra.Command, r engine.ListRequest) (digest.Digest, error) {
			return e.AddToList(cmd.Context(), r)
		})
	bindEntry(cmd, req, annotations)
	return cmd
}

func (p *Program) manifestAnnotateCommand() *cobra.Command {
	cmd, req, annotations := p.listCommand("annotate [FLAGS] LIST IMAGE", "Change what a list says of an image", exactArgs(2),
		func(e *engine.Engine, cmd *cobra.Command, r engine.ListRequest) (digest.Digest, error) {
			return e.AnnotateList(cmd.Context(), r)
		})
	bindEntry(cmd, req, annotations)
	return cmd
}

func (p *Program) manifestRemoveCommand() *cobra.Command {
	cmd, _, _ := p.listCommand("remove LIST IMAGE...", "Take images out of a list", minArgs(2),
		func(e *engine.Engine, cmd *cobra.Command, r engine.ListRequest) (digest.Digest, error) {
			return e.RemoveFromList(cmd.Context(), r)
		})
	return cmd
}

func (p *Program) manifestInspectCommand() *cobra.Command {
	var req engine.RemoteDocumentRequest
	var raw bool
	cmd := &cobra.Command{
		Use:   "inspect [FLAGS] NAME|docker://NAME",
		Short: "Print a list, or the manifest of an image",
		Long: "Print a list, or the manifest of an image: of the store, or, with docker:// before its name, of its registry, from\n" +
			"which nothing is kept.",
		Example:               "  containr manifest inspect docker://registry.example/team/app:1.0",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().BoolVar(&raw, "raw", false, "print it byte by byte, so that its digest can be checked")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		e, err := p.engine()
		if err != nil {
			return err
		}
		var data []byte
		if name, ok := strings.CutPrefix(args[0], "docker://"); ok {
			req.Name = name
			data, err = e.RemoteDocument(cmd.Context(), req)
		} else {
			data, err = e.ImageDocument(cmd.Context(), engine.DocumentRequest{InspectRequest: engine.InspectRequest{Name: args[0]}})
		}
		if err != nil {
			return err
		}
		if raw {
			_, err = p.Out.Write(data)
			return err
		}
		var out bytes.Buffer
		if err := json.Indent(&out, data, "", "    "); err != nil {
			return err
		}
		out.WriteByte('\n')
		_, err = p.Out.Write(present.EscapeJSON(out.Bytes()))
		return err
	}
	return cmd
}
