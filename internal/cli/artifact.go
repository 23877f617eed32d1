package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

func (p *Program) artifactCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "artifact COMMAND",
		Short:   "Keep files in the store and in registries, as images are kept",
		GroupID: groupImages,
		Long: "Keep files in the store and in registries, as images are kept. An artifact has a name and a type, and may be about\n" +
			"an image: then it is found by it, with `containr image referrers`.",
		Args: cobra.ArbitraryArgs,
		RunE: groupOfCommands,
	}
	cmd.AddCommand(p.artifactAddCommand(), p.artifactPushCommand(), p.artifactPullCommand(), p.artifactExtractCommand(),
		p.artifactListCommand(), p.artifactInspectCommand(), p.artifactRemoveCommand())
	return cmd
}

func (p *Program) artifactAddCommand() *cobra.Command {
	var req engine.AddArtifactRequest
	var fileType string
	var annotations []string
	cmd := &cobra.Command{
		Use:                   "add [FLAGS] NAME FILE...",
		Short:                 "Make an artifact of files",
		Example:               "  containr artifact add --type application/vnd.example.config registry.example/app/config:1 app.conf",
		Args:                  minArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Annotations, err = parseAnnotations(cmd, annotations); err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Name = args[0]
			for _, path := range args[1:] {
				req.Files = append(req.Files, image.ArtifactFile{Path: path, MediaType: fileType})
			}
			a, err := e.AddArtifact(cmd.Context(), req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, a.Target.Digest)
			return err
		},
	}
	cmd.Flags().StringVar(&req.Type, "type", image.UnknownArtifact, "what the artifact is: a media `TYPE`")
	cmd.Flags().StringVar(&fileType, "file-type", "", "what the files are: a media `TYPE`, by default application/octet-stream")
	cmd.Flags().StringArrayVar(&annotations, "annotation", nil, "note `KEY=VALUE` in its manifest")
	cmd.Flags().StringVar(&req.Subject, "subject", "", "it is about `IMAGE`, which is in the store")
	return cmd
}

// parseAnnotations reads the values of --annotation.
func parseAnnotations(cmd *cobra.Command, values []string) (map[string]string, error) {
	var all map[string]string
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		if !ok || key == "" {
			return nil, usageErrorf("%s: --annotation %s: it is not KEY=VALUE", cmd.Name(), v)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[key] = value
	}
	return all, nil
}

func (p *Program) artifactPushCommand() *cobra.Command {
	var req engine.PushRequest
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push [FLAGS] ARTIFACT [NAME]",
		Short: "Send an artifact to a registry",
		Long: "Send an artifact to the registry that its name tells, or that NAME does. If it is about an image, and the registry\n" +
			"keeps no list of what refers to an image, the list is kept for it, under the tag that the specification has for that.",
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&f.digestFile, "digestfile", "", "write the digest to `FILE`")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show no progress, and print the name alone")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		e, err := p.engine()
		if err != nil {
			return err
		}
		if _, err := e.Artifact(args[0]); err != nil {
			return err
		}
		if req.Source = args[0]; len(args) == 2 {
			req.Target = args[1]
		}
		return p.push(cmd.Context(), req, f)
	}
	return cmd
}

func (p *Program) artifactPullCommand() *cobra.Command {
	var req engine.PullRequest
	var quiet bool
	cmd := &cobra.Command{
		Use:                   "pull [FLAGS] NAME",
		Short:                 "Fetch an artifact from a registry",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		e, err := p.engine()
		if err != nil {
			return err
		}
		progress := p.newProgress(quiet)
		defer progress.close()
		req.Name, req.Progress = args[0], progress.event
		a, err := e.PullArtifact(cmd.Context(), req)
		if err != nil {
			return err
		}
		progress.close()
		_, err = fmt.Fprintln(p.Out, a.Name)
		return err
	}
	return cmd
}

func (p *Program) artifactExtractCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "extract ARTIFACT DIR",
		Short: "Write the files of an artifact into a directory",
		Long: "Write the files of an artifact into a directory, which must exist, and print their names. Files that are there already\n" +
			"stay, and then nothing is written.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			names, err := e.ExtractArtifact(cmd.Context(), args[0], args[1])
			for _, name := range names {
				fmt.Fprintln(p.text(), filepath.Join(args[1], name))
			}
			return err
		},
	}
}

// artifactRow is a line of `artifact ls`.
type artifactRow struct{ Name, Type, Digest, Files, Size string }

func (p *Program) artifactListCommand() *cobra.Command {
	var format string
	var full bool
	cmd := &cobra.Command{
		Use:                   "ls [FLAGS]",
		Short:                 "List the artifacts in the store",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, _ []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			all, err := e.Artifacts()
			if err != nil {
				return err
			}
			var rows []artifactRow
			for _, a := range all {
				name := "<none>"
				if a.Name != "" {
					name = familiar([]string{a.Name})[0]
				}
				rows = append(rows, artifactRow{name, a.Type(), present.ID(a.Target.Digest.String(), full), fmt.Sprint(len(filesOf(&a))), present.Size(a.Size())})
			}
			l := present.List{Format: format, Columns: []present.Column{{Field: "Name", Title: "NAME"}, {Field: "Type", Title: "TYPE"},
				{Field: "Digest", Title: "DIGEST"}, {Field: "Files", Title: "FILES"}, {Field: "Size", Title: "SIZE"}}}
			return present.Rows(p.text(), l, rows)
		},
	}
	cmd.Flags().BoolVar(&full, "no-trunc", false, "print whole digests")
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	return cmd
}

// filesOf lists the files of an artifact, without the blob that stands for none.
func filesOf(a *image.Artifact) []v1.Descriptor {
	var files []v1.Descriptor
	for _, l := range a.Manifest.Layers {
		if l.MediaType != v1.MediaTypeEmptyJSON {
			files = append(files, l)
		}
	}
	return files
}

// inspectedArtifact is what `artifact inspect` prints.
type inspectedArtifact struct {
	Name        string
	Digest      string
	Type        string
	Size        int64
	Subject     string `json:",omitempty"`
	Files       []inspectedFile
	Annotations map[string]string `json:",omitempty"`
}

type inspectedFile struct {
	Name, MediaType, Digest string
	Size                    int64
}

func (p *Program) artifactInspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:                   "inspect [FLAGS] ARTIFACT...",
		Short:                 "Print what is known about artifacts",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var all []inspectedArtifact
			for _, name := range args {
				a, err := e.Artifact(name)
				if err != nil {
					return err
				}
				all = append(all, inspectArtifact(a))
			}
			return present.Documents(p.text(), format, all)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print each as `TEMPLATE` (Go's), or json")
	return cmd
}

func inspectArtifact(a *image.Artifact) inspectedArtifact {
	out := inspectedArtifact{Name: a.Name, Digest: a.Target.Digest.String(), Type: a.Type(), Size: a.Size(), Annotations: a.Manifest.Annotations, Files: []inspectedFile{}}
	if a.Manifest.Subject != nil {
		out.Subject = a.Manifest.Subject.Digest.String()
	}
	for _, f := range filesOf(a) {
		out.Files = append(out.Files, inspectedFile{f.Annotations[v1.AnnotationTitle], f.MediaType, f.Digest.String(), f.Size})
	}
	return out
}

func (p *Program) artifactRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:                   "rm ARTIFACT...",
		Short:                 "Remove artifacts from the store",
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			for _, name := range args {
				removed, err := e.RemoveArtifact(cmd.Context(), name)
				if err != nil {
					return err
				}
				if err := p.printRemoved(removed); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// referrerRow is a line of `image referrers`.
type referrerRow struct{ Digest, Type, Size, Created string }

func (p *Program) imageReferrersCommand() *cobra.Command {
	var req engine.ReferrersRequest
	var format string
	cmd := &cobra.Command{
		Use:   "referrers [FLAGS] IMAGE",
		Short: "List what refers to an image: signatures, bills of materials and the like",
		Long: "List what refers to an image in its registry, or with --local in the store: signatures, bills of materials and\n" +
			"other artifacts. `containr artifact pull NAME@DIGEST` fetches one.",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&req.Type, "type", "", "list those of a `TYPE` alone")
	cmd.Flags().BoolVar(&req.Here, "local", false, "look in the store, and ask no registry")
	cmd.Flags().StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		e, err := p.engine()
		if err != nil {
			return err
		}
		req.Name = args[0]
		found, err := e.Referrers(cmd.Context(), req)
		if err != nil {
			return err
		}
		var rows []referrerRow
		for _, d := range found {
			rows = append(rows, referrerRow{d.Digest.String(), d.ArtifactType, present.Size(d.Size), d.Annotations[v1.AnnotationCreated]})
		}
		l := present.List{Format: format, Columns: []present.Column{{Field: "Digest", Title: "DIGEST"}, {Field: "Type", Title: "TYPE"},
			{Field: "Size", Title: "SIZE"}, {Field: "Created", Title: "CREATED"}}}
		return present.Rows(p.text(), l, rows)
	}
	return cmd
}

// The types of bills of materials.
const (
	spdxType      = "application/spdx+json"
	cycloneDXType = "application/vnd.cyclonedx+json"
)

func (p *Program) sbomCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sbom COMMAND",
		Short:   "Attach bills of materials to images, and read them",
		GroupID: groupImages,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	cmd.AddCommand(p.sbomAttachCommand(), p.sbomReadCommand())
	return cmd
}

func (p *Program) sbomAttachCommand() *cobra.Command {
	var req engine.AttachFileRequest
	cmd := &cobra.Command{
		Use:   "attach [FLAGS] IMAGE FILE",
		Short: "Attach a bill of materials to an image in its registry",
		Long: "Attach a bill of materials to an image in its registry: a file in the JSON form of SPDX or CycloneDX, which becomes an\n" +
			"artifact that refers to the image. Its digest is printed.",
		Args:                  exactArgs(2),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		var err error
		req.Image, req.File = args[0], args[1]
		if req.Type, err = sbomType(args[1]); err != nil {
			return err
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		d, err := e.AttachFile(cmd.Context(), req)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.Out, d)
		return err
	}
	return cmd
}

// maxSBOM bounds a bill of materials that is looked at, in bytes.
const maxSBOM = 256 << 20

// sbomType finds out what kind of bill of materials a file is.
func sbomType(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var document struct {
		SPDXVersion string `json:"spdxVersion"`
		BOMFormat   string `json:"bomFormat"`
	}
	err = json.NewDecoder(io.LimitReader(f, maxSBOM)).Decode(&document)
	switch {
	case err == nil && strings.HasPrefix(document.SPDXVersion, "SPDX-"):
		return spdxType, nil
	case err == nil && document.BOMFormat == "CycloneDX":
		return cycloneDXType, nil
	}
	return "", &usageError{text: "sbom attach: " + path + " is neither SPDX nor CycloneDX, in JSON", hint: "other files are attached with `containr artifact add --subject` and pushed"}
}

func (p *Program) sbomReadCommand() *cobra.Command {
	var req engine.ReadAttachedRequest
	var kind string
	cmd := &cobra.Command{
		Use:                   "read [FLAGS] IMAGE",
		Short:                 "Print the bill of materials that is attached to an image in its registry",
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVar(&kind, "type", "", "print the one in the `FORMAT` spdx or cyclonedx")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		switch kind {
		case "":
			req.Types = []string{spdxType, cycloneDXType}
		case "spdx":
			req.Types = []string{spdxType}
		case "cyclonedx":
			req.Types = []string{cycloneDXType}
		default:
			return usageErrorf("sbom read: --type %s: use spdx or cyclonedx", kind)
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		req.Image, req.Out = args[0], p.text()
		return e.ReadAttached(cmd.Context(), req)
	}
	return cmd
}
