package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/apparmor"
	"github.com/containr/containr/internal/doctor"
	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/engine"
)

// infoDocument is what a template of `info` may name: docker's names where docker has the thing.
type infoDocument struct {
	Name, ServerVersion                                                string
	Containers, ContainersRunning, ContainersPaused, ContainersStopped int
	Images                                                             int
	Driver, BackingFilesystem                                          string
	// DriverReason says why it is that driver, where it is not the best.
	DriverReason                                         string `json:",omitempty"`
	CgroupDriver, CgroupVersion                          string
	Controllers                                          []string
	KernelVersion, OperatingSystem, OSType, Architecture string
	NCPU                                                 int
	MemTotal                                             uint64 // bytes
	SecurityOptions                                      []string
	Rootless                                             bool
	DockerRootDir, RunDir                                string
	// Warnings say what is missing, as `doctor` finds it.
	Warnings []string
}

func (p *Program) infoCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "info [FLAGS]",
		Short:   "Print what there is here: containers, images, and the machine",
		GroupID: groupSystem,
		Args:    exactArgs(0),
		Long: "Print what there is here: containers, images, and the machine.\n\n" +
			"What is missing is listed as warnings; `containr doctor` says what mends it.",
		Example:               "  containr info\n  containr info --format '{{.CgroupVersion}}'",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := p.info(cmd.Context())
			if err != nil {
				return err
			}
			if format != "" {
				return present.Documents(p.text(), format, []infoDocument{d})
			}
			return writeInfo(p.Out, d)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json or by `TEMPLATE` (Go's)")
	return cmd
}

func (p *Program) info(ctx context.Context) (infoDocument, error) {
	e, err := p.engine()
	if err != nil {
		return infoDocument{}, err
	}
	i, err := e.Info()
	if err != nil {
		return infoDocument{}, err
	}
	snapshotter, err := e.Snapshotter()
	if err != nil {
		return infoDocument{}, err
	}
	m := p.lookAt(ctx, e, nil)
	d := infoDocument{
		ServerVersion: Version, Containers: i.Containers(), ContainersRunning: i.Running, ContainersPaused: i.Paused, ContainersStopped: i.Stopped,
		Images: i.Images, Driver: snapshotter.Name, DriverReason: snapshotter.Why, BackingFilesystem: m.Storage.FileSystem, CgroupDriver: "cgroupfs",
		CgroupVersion: strings.TrimPrefix(i.Facts.CgroupMode.String(), "v"), Controllers: controllersOf(i),
		KernelVersion: m.Release, OperatingSystem: m.Distribution.Name, OSType: runtime.GOOS, Architecture: i.Facts.Arch,
		NCPU: runtime.NumCPU(), SecurityOptions: securityOptions(m), Rootless: !i.Facts.Root(), DockerRootDir: i.Root, RunDir: i.Run,
	}
	if d.Name, err = os.Hostname(); err != nil {
		return d, fmt.Errorf("host name: %w", err)
	}
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		return d, fmt.Errorf("sysinfo: %w", err)
	}
	d.MemTotal = uint64(s.Totalram) * uint64(s.Unit)
	for _, f := range notOK(doctor.Examine(m)) {
		d.Warnings = append(d.Warnings, f.Check+": "+f.Why)
	}
	return d, nil
}

func controllersOf(i *engine.Info) []string {
	var all []string
	for _, h := range i.Facts.Hierarchies {
		all = append(all, h.Controllers...)
	}
	return all
}

// securityOptions are in docker's notation.
func securityOptions(m *doctor.Machine) []string {
	var all []string
	for _, o := range []struct {
		name string
		have bool
	}{
		{"name=apparmor", m.Facts.AppArmor && m.NoDefaultProfile != ""}, {"name=apparmor,profile=" + apparmor.Profile, m.Facts.AppArmor && m.NoDefaultProfile == ""}, {"name=seccomp,profile=builtin", len(m.SeccompActions) > 0}, {"name=selinux", m.Facts.SELinux},
		{"name=rootless", !m.Facts.Root()}, {"name=cgroupns", m.Facts.CgroupMode.String() == "v2"},
	} {
		if o.have {
			all = append(all, o.name)
		}
	}
	return all
}

func writeInfo(w io.Writer, d infoDocument) error {
	var b strings.Builder
	line := func(name, format string, values ...any) {
		fmt.Fprintf(&b, " %s: %s\n", name, fmt.Sprintf(format, values...))
	}
	b.WriteString("Client: containr\n")
	line("Version", "%s", d.ServerVersion)
	b.WriteString("\nEngine: in the same program\n")
	line("Containers", "%d", d.Containers)
	line(" Running", "%d", d.ContainersRunning)
	line(" Paused", "%d", d.ContainersPaused)
	line(" Stopped", "%d", d.ContainersStopped)
	line("Images", "%d", d.Images)
	line("Storage Driver", "%s", d.Driver)
	if d.DriverReason != "" {
		line(" Reason", "%s", d.DriverReason)
	}
	line(" Backing Filesystem", "%s", d.BackingFilesystem)
	line("Cgroup Driver", "%s", d.CgroupDriver)
	line("Cgroup Version", "%s", d.CgroupVersion)
	line(" Controllers", "%s", strings.Join(d.Controllers, " "))
	line("Security Options", "%s", strings.Join(d.SecurityOptions, " "))
	line("Kernel Version", "%s", d.KernelVersion)
	line("Operating System", "%s", d.OperatingSystem)
	line("OSType", "%s", d.OSType)
	line("Architecture", "%s", d.Architecture)
	line("CPUs", "%d", d.NCPU)
	line("Total Memory", "%s", units.BytesSize(float64(d.MemTotal)))
	line("Name", "%s", d.Name)
	line("Root Dir", "%s", d.DockerRootDir)
	line("Run Dir", "%s", d.RunDir)
	line("Rootless", "%v", d.Rootless)
	if len(d.Warnings) > 0 {
		b.WriteString("\nWarnings (containr doctor says what mends them):\n")
		for _, text := range d.Warnings {
			fmt.Fprintf(&b, " %s\n", text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
