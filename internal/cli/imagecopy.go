package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/engine"
)

func (p *Program) imageCopyCommand() *cobra.Command {
	var req engine.CopyRequest
	var quiet bool
	cmd := &cobra.Command{
		Use:     "copy [FLAGS] SOURCE TARGET",
		Aliases: []string{"cp"},
		Short:   "Copy an image between the store, registries, archives and directories",
		Long: "Copy an image byte by byte, so that its digest stays (docker keeps no manifests: a new one is made of what it has).\n" +
			"SOURCE and TARGET are\n\n" +
			"  NAME, containr:NAME        an image in the store\n" +
			"  docker://NAME              an image in a registry\n" +
			"  oci:DIR[:NAME]             an OCI image layout in a directory\n" +
			"  oci-archive:FILE[:NAME]    one in a tar archive\n" +
			"  docker-archive:FILE[:NAME] an archive for docker, which is an OCI archive too\n" +
			"  dir:DIR                    the files of an image for one platform, as skopeo has them\n" +
			"  docker-daemon:NAME         an image of docker's daemon, by its socket (DOCKER_HOST)\n" +
			"  containers-storage:NAME    an image of podman and buildah, by skopeo, which must be here\n\n" +
			"NAME may be a tag alone in archives and directories; it can be left out where there is one image only.\n" +
			"The digest of what was copied is printed.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&req.Platform, "platform", "", "copy what is for `OS/ARCH[/VARIANT]` alone")
	cmd.Flags().BoolVar(&req.AllPlatforms, "all-platforms", false, "fetch all platforms from a registry, and send all to one")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		if err := exclusive(cmd, "platform", "all-platforms"); err != nil {
			return err
		}
		var err error
		if req.From, err = engine.ParsePlace(args[0]); err != nil {
			return &usageError{text: "image copy: " + err.Error(), err: err}
		}
		if req.To, err = engine.ParsePlace(args[1]); err != nil {
			return &usageError{text: "image copy: " + err.Error(), err: err}
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		progress := p.newProgress(quiet)
		defer progress.close()
		req.Progress = progress.event
		digest, err := e.CopyImage(cmd.Context(), req)
		if err != nil {
			return err
		}
		progress.close()
		_, err = fmt.Fprintln(p.Out, digest)
		return err
	}
	return cmd
}
