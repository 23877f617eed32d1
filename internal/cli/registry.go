package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
)

// bindAccess adds the flags of all commands that speak with registries.
func bindAccess(f *pflag.FlagSet, r *engine.RegistryAccess) (finish func()) {
	var verify bool
	f.BoolVar(&r.PlainHTTP, "plain-http", false, "speak HTTP to the registry")
	f.BoolVar(&verify, "tls-verify", true, "with =false, allow plain HTTP, and certificates that nobody vouches for")
	return func() { r.Insecure = !verify }
}

func (p *Program) pullCommand() *cobra.Command {
	var req engine.PullRequest
	var quiet, allTags bool
	cmd := &cobra.Command{
		Use:     "pull [FLAGS] IMAGE",
		Short:   "Fetch an image from a registry",
		GroupID: groupImages,
		Long: "Fetch an image from a registry, and unpack it.\n\n" +
			"What is here already is not fetched again, and a pull that broke off goes on where it\n" +
			"did, within a day. `containr explain pull` prints the requests.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&req.Platform, "platform", "", "fetch the image for `OS/ARCH[/VARIANT]`")
	cmd.Flags().BoolVar(&req.AllPlatforms, "all-platforms", false, "fetch the images for all platforms, and unpack one")
	cmd.Flags().BoolVarP(&allTags, "all-tags", "a", false, "fetch every tag of the repository IMAGE")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		if req.AllPlatforms && req.Platform != "" {
			return usageErrorf("pull: --all-platforms and --platform exclude each other")
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		progress := p.newProgress(quiet)
		defer progress.close()
		req.Name, req.Progress = args[0], progress.event
		if allTags {
			return e.PullTags(cmd.Context(), req, p.printName, func(name string) error {
				_, err := fmt.Fprintf(p.Err, "%s is left out: it is no container image; `containr artifact pull` fetches it\n", name)
				return err
			})
		}
		img, err := e.Pull(cmd.Context(), req)
		if err != nil {
			return err
		}
		progress.close()
		return p.printName(img)
	}
	return cmd
}

// explainPull prints the requests of the command line of a pull.
func (p *Program) explainPull(ctx context.Context, f explainFlags, args []string) error {
	if f.diff != "" || f.as != "plan" || f.zoom != "steps" {
		return &usageError{text: "explain: --as, --zoom and --diff are about a run, not about a pull", hint: "a pull is explained as a script of curl"}
	}
	var req engine.PullRequest
	cmd := &cobra.Command{Use: "pull"}
	(&cobra.Command{Use: "containr"}).AddCommand(cmd)
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&req.Platform, "platform", "", "")
	if err := cmd.ParseFlags(args); err != nil {
		return flagError(cmd, err)
	}
	finish()
	rest := cmd.Flags().Args()
	if len(rest) != 1 {
		return &usageError{text: "explain pull: one image is wanted", hint: "containr explain pull [--platform OS/ARCH] IMAGE"}
	}
	req.Name = rest[0]
	e, err := p.engine()
	if err != nil {
		return err
	}
	return e.ExplainPull(ctx, p.Out, req)
}

func (p *Program) printName(img *image.Image) error {
	_, err := fmt.Fprintln(p.Out, img.Name)
	return err
}

// pushFlags are the flags of `push` that the engine does not know.
type pushFlags struct {
	quiet, allTags        bool
	digestFile, chunkSize string
}

func (p *Program) pushCommand() *cobra.Command {
	var req engine.PushRequest
	var f pushFlags
	cmd := &cobra.Command{
		Use:     "push [FLAGS] IMAGE [NAME]",
		Short:   "Send an image to a registry",
		GroupID: groupImages,
		Long: "Send an image to the registry that its name tells, or that NAME does.\n\n" +
			"What the registry has already is not sent again. Of an image for several platforms all\n" +
			"are sent if all are here, else the one for this machine. The digest of what the name\n" +
			"means now is printed.",
		Example: "  containr push registry.example/team/app:1.0\n" +
			"  containr push --compression zstd app registry.example/team/app",
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&req.Platform, "platform", "", "send the image for `OS/ARCH[/VARIANT]` alone")
	cmd.Flags().BoolVar(&req.AllPlatforms, "all-platforms", false, "send all platforms, or fail if one is missing")
	cmd.Flags().StringVar(&req.Compression, "compression", "", "compress layers anew as `FORMAT` gzip, zstd or none; their digests change")
	cmd.Flags().IntVar(&req.Level, "compression-level", 0, "compress by `LEVEL`: gzip has 1 to 9, zstd 1 to 22")
	cmd.Flags().StringVar(&f.chunkSize, "chunk-size", "", "send at most `SIZE` with one request, such as 16m")
	cmd.Flags().StringVar(&f.digestFile, "digestfile", "", "write the digest to `FILE`")
	cmd.Flags().BoolVarP(&f.allTags, "all-tags", "a", false, "send every tag that the repository IMAGE has here")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show no progress, and print the name alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		if req.Platform != "" && !cmd.Flags().Changed("all-platforms") {
			req.AllPlatforms = false // the default of `manifest push`
		}
		if req.AllPlatforms && req.Platform != "" {
			return usageErrorf("push: --all-platforms and --platform exclude each other")
		}
		if f.chunkSize != "" {
			size, err := units.RAMInBytes(f.chunkSize)
			if err != nil || size <= 0 {
				return usageErrorf("push: --chunk-size %s: use a size such as 16m", f.chunkSize)
			}
			req.ChunkSize = size
		}
		if _, err := registry.ParseCompression(req.Compression, req.Level); err != nil {
			return usageErrorf("push: --compression: %v", err)
		}
		req.Source = args[0]
		if len(args) == 2 {
			req.Target = args[1]
		}
		if f.allTags {
			if len(args) == 2 || f.digestFile != "" {
				return usageErrorf("push: --all-tags goes neither with another NAME nor with --digestfile")
			}
			return p.pushTags(cmd.Context(), req, f)
		}
		return p.push(cmd.Context(), req, f)
	}
	return cmd
}

// pushTags pushes the tags of a repository one after another, as far as it goes.
func (p *Program) pushTags(ctx context.Context, req engine.PushRequest, f pushFlags) error {
	e, err := p.engine()
	if err != nil {
		return err
	}
	names, err := e.TagsHere(req.Source)
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range names {
		req.Source = name
		if err := p.push(ctx, req, f); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (p *Program) push(ctx context.Context, req engine.PushRequest, f pushFlags) error {
	e, err := p.engine()
	if err != nil {
		return err
	}
	progress := p.newProgress(f.quiet)
	defer progress.close()
	req.Progress = progress.event
	pushed, err := e.Push(ctx, req)
	if err != nil {
		return err
	}
	progress.close()
	if len(pushed.Omitted) > 0 {
		var words []string
		for _, o := range pushed.Omitted {
			words = append(words, o.String())
		}
		fmt.Fprintf(p.Err, "left out, as they are not here: %s\n", strings.Join(words, ", "))
	}
	if f.digestFile != "" {
		if err := writeText(f.digestFile, []byte(pushed.Target.Digest.String())); err != nil {
			return err
		}
	}
	if f.quiet {
		_, err = fmt.Fprintln(p.Out, pushed.Name)
		return err
	}
	_, err = fmt.Fprintf(p.Out, "%s: digest: %s size: %d\n", pushed.Name, pushed.Target.Digest, pushed.Target.Size)
	return err
}
