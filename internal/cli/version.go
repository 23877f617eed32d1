package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/host"
)

// versionDocument is what a template of `version` may name. Client and Server are docker's names: scripts ask for them.
// Both are this program, since the engine is in it.
type versionDocument struct {
	Client clientVersion
	Server serverVersion
}

type clientVersion struct {
	Platform                     platformName
	Version, GoVersion, Os, Arch string
}

type serverVersion struct {
	clientVersion
	KernelVersion, MinKernelVersion string
	// Components are the modules that the program is linked of.
	Components []component
}

type platformName struct{ Name string }

type component struct{ Name, Version string }

func (p *Program) versionCommand() *cobra.Command {
	var format string
	var components bool
	cmd := &cobra.Command{
		Use:     "version [FLAGS]",
		Short:   "Print the version",
		GroupID: groupSystem,
		Args:    exactArgs(0),
		Long: "Print the version of containr, and of what it is built with.\n\n" +
			"A template may name docker's fields of Client and Server, which here are one program.",
		Example: "  containr version --components\n" +
			"  containr version --format '{{.Server.Version}}'",
		DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case components && format != "":
				return &usageError{text: "version: --components does not go with --format", hint: "--format '{{json .Server.Components}}' prints them"}
			case components:
				return present.Rows(p.text(), present.List{Columns: []present.Column{{Field: "Name", Title: "MODULE"}, {Field: "Version", Title: "VERSION"}}}, linkedModules())
			case format != "":
				return present.Documents(p.text(), format, []versionDocument{newVersionDocument()})
			}
			return writeVersion(p.Out, newVersionDocument())
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json or by `TEMPLATE` (Go's)")
	cmd.Flags().BoolVar(&components, "components", false, "print each module that the program is linked of, with its version")
	return cmd
}

func (p *Program) printVersion() error {
	_, err := fmt.Fprintln(p.Out, "containr", Version)
	return err
}

func newVersionDocument() versionDocument {
	c := clientVersion{Platform: platformName{"containr"}, Version: Version, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH}
	s := serverVersion{clientVersion: c, MinKernelVersion: host.Oldest.String(), Components: linkedModules()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		s.KernelVersion = unix.ByteSliceToString(u.Release[:])
	}
	return versionDocument{Client: c, Server: s}
}

// linkedModules are the Go modules that this program is linked of.
func linkedModules() []component {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	return modulesOf(info)
}

// modulesOf lists modules, the program's own first, in the versions that go.mod pins.
func modulesOf(info *debug.BuildInfo) []component {
	all := []component{{info.Main.Path, Version}, {"go", strings.TrimPrefix(info.GoVersion, "go")}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, component{m.Path, m.Version})
	}
	return all
}

func writeVersion(w io.Writer, d versionDocument) error {
	_, err := fmt.Fprintf(w, `Client: containr
 Version:     %s
 Go version:  %s
 OS/Arch:     %s/%s

Engine: in the same program
 Kernel:      %s (%s or newer is needed)
 Components:  %d, see containr version --components
`, d.Client.Version, d.Client.GoVersion, d.Client.Os, d.Client.Arch, d.Server.KernelVersion, d.Server.MinKernelVersion, len(d.Server.Components))
	return err
}
