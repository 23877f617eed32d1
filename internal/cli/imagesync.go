package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/engine"
)

func (p *Program) imageSyncCommand() *cobra.Command {
	var req engine.SyncRequest
	var quiet bool
	cmd := &cobra.Command{
		Use:   "sync [FLAGS] SOURCE TARGET",
		Short: "Copy many images from registries to a directory or a registry, or from a directory to a registry",
		Long: "Copy many images byte by byte, so that their digests stay, and signatures and other artifacts with them. SOURCE is\n\n" +
			"  docker://REPOSITORY       all tags of a repository\n" +
			"  docker://NAME:TAG         one image\n" +
			"  dir:DIR                   all images in and below a directory, as sync and skopeo write them\n" +
			"  yaml:FILE                 what skopeo's list of registries, repositories and tags says\n\n" +
			"and TARGET\n\n" +
			"  dir:DIR                   a directory, in which each image has one, called NAME:TAG\n" +
			"  docker://PREFIX           a registry, in which each image is called PREFIX/NAME:TAG\n\n" +
			"NAME is the last component of an image's name. What is copied is printed: source, target and digest. No image stays in\n" +
			"the store. A list looks like this; `images` has tags and digests, none of them for all tags:\n\n" +
			"  registry.example:\n" +
			"    images:\n" +
			"      debian: [\"12\", \"13\"]\n" +
			"      tools/busybox: []\n" +
			"    images-by-tag-regex:\n" +
			"      nginx: ^1\\.2[0-9]-alpine$\n" +
			"    credentials: {username: me, password: secret}\n" +
			"    tls-verify: true\n" +
			"    cert-dir: /etc/certs",
		Example: "  containr image sync docker://registry.example/team/app dir:/media/usb\n" +
			"  containr image sync dir:/media/usb docker://localhost:5000/mirror",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().BoolVar(&req.Scoped, "scoped", false, "keep the whole names of images below TARGET, registry and all")
	cmd.Flags().BoolVar(&req.AllPlatforms, "all-platforms", false, "copy all platforms, from registry to registry")
	cmd.Flags().BoolVar(&req.KeepGoing, "keep-going", false, "copy the others when one fails")
	cmd.Flags().BoolVar(&req.DryRun, "dry-run", false, "print what would be copied, and copy nothing")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		finish()
		if req.From, req.To, err = engine.ParseSyncPlaces(args[0], args[1]); err != nil {
			return &usageError{text: "image sync: " + err.Error(), err: err}
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		progress := p.newProgress(quiet)
		defer progress.close()
		req.Progress = progress.event
		req.Copied = func(s engine.Synced) error {
			if s.Skipped != nil {
				_, err := fmt.Fprintf(p.Err, "%s is left out, as a directory holds one manifest: %v\n", s.From, s.Skipped)
				return err
			}
			text := fmt.Sprintf("%s -> %s", s.From, s.To)
			if s.Digest != "" {
				text += " " + s.Digest.String()
			}
			_, err := fmt.Fprintln(p.Out, text)
			return err
		}
		return e.Sync(cmd.Context(), req)
	}
	return cmd
}
