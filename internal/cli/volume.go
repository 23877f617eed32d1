package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/volume"
	"github.com/containr/containr/pkg/volume/plugin"
)

func (p *Program) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "volume COMMAND",
		Short:   "Make and remove volumes: data that outlives containers",
		GroupID: groupSystem,
		Long: "Make and remove volumes: directories with a name, which outlive the containers that see them.\n\n" +
			"A volume is made when a container first wants it: `containr run -v data:/var/lib/data ...`. What the\n" +
			"image has at that place is copied into it while it is empty.",
		Args: cobra.ArbitraryArgs,
		RunE: groupOfCommands,
	}
	cmd.AddCommand(p.volumeCreateCommand(), p.volumeListCommand(), p.volumeInspectCommand(), p.volumeRemoveCommand(), p.volumePruneCommand(),
		p.volumeCloneCommand(), p.volumeSnapshotCommand(), p.volumeRestoreCommand(), p.volumeCopyFilesCommand(), p.volumeExportCommand(), p.volumeImportCommand())
	return cmd
}

func (p *Program) volumeCreateCommand() *cobra.Command {
	labels, options := map[string]string{}, map[string]string{}
	var driver string
	cmd := &cobra.Command{
		Use:                   "create [FLAGS] [VOLUME]",
		Short:                 "Make a volume",
		Long:                  volumeCreateText,
		Args:                  rangeArgs(0, 1),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := engine.VolumeRequest{Labels: labels, Driver: driver, Options: options}
			if len(args) > 0 {
				req.Name = args[0]
				if err := volume.ValidateName(req.Name); err != nil {
					return &usageError{text: err.Error(), err: err}
				}
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			v, err := e.CreateVolume(cmd.Context(), req)
			if errors.Is(err, volume.ErrOptions) {
				return &usageError{text: "volume create: " + err.Error(), err: err}
			}
			if err == nil {
				_, err = fmt.Fprintln(p.Out, v.Name)
			}
			return err
		},
	}
	set := cmd.Flags()
	set.StringVarP(&driver, "driver", "d", volume.DriverLocal, "who keeps it: `DRIVER` local, or the name of a volume plugin")
	binder{set, ""}.value("opt", "o", "limit it by size=SIZE, or have the content elsewhere, by `KEY=VALUE`: type, device, o", enter(options, parseVolumeOption))
	binder{set, ""}.value("label", "", "note `KEY[=VALUE]` on it", enter(labels, container.ParseLabel))
	return cmd
}

const volumeCreateText = "Make a volume and print its name. One that is there already stays as it is.\n\n" +
	"  -o size=10g                                 what it holds may take so much, the file system's own tables included\n\n" +
	"A limit is a file system of that size in a file of containr's, which takes on disk what was written: it needs root,\n" +
	"loop devices and mkfs.ext4, and containers that have the users of the host.\n\n" +
	"With other options its content is not kept by containr: the plan of each container mounts it, and it goes with the\n" +
	"container's mounts. Nothing is mounted on the host, and `volume rm` removes only the name.\n\n" +
	"  -o type=none -o device=/srv/data -o o=bind  a directory of the host\n" +
	"  -o type=tmpfs -o o=size=64m,mode=1777       memory, while a container runs that has it; all see the same\n" +
	"  -o type=ext4 -o device=/dev/sdb1            the file system on a block device\n" +
	"  -o type=overlay -o o=lowerdir=/a:/b         directories on each other; upperdir and workdir make them writable\n\n" +
	"A value of o goes on to the end: options of mount(8), with commas between them. What the image has is not copied\n" +
	"into such a volume. It can be exported, cloned and copied from, if it is a directory or a device."

// parseVolumeOption reads KEY=VALUE.
func parseVolumeOption(s string) (key, value string, err error) {
	key, value, has := strings.Cut(s, "=")
	if key == "" || !has {
		return "", "", fmt.Errorf("%q is not KEY=VALUE", s)
	}
	return key, value, nil
}

// volumeRow is a line of volume ls, and what a template may name.
type volumeRow struct {
	Name, Driver, Scope, Mountpoint, Labels, Links, Size, Limit, CreatedAt string
	labels                                                                 map[string]string
}

// Label is the value of a label.
func (r volumeRow) Label(name string) string { return r.labels[name] }

var volumeFilters = []string{"dangling", "driver", "label", "name"}

func (p *Program) volumeListCommand() *cobra.Command {
	var filters []string
	var format string
	var quiet, size bool
	cmd := &cobra.Command{
		Use: "ls [FLAGS]", Aliases: []string{"list"}, Short: "List volumes",
		Long: "List volumes, those that plugins keep included, also where containr has not created them. `{{.Scope}}` is global if a plugin serves\n" +
			"more machines than this one. A plugin that does not answer within seconds is named in a warning, and the list goes on without.",
		Args: exactArgs(0), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := present.ParseFilters(filters, volumeFilters...)
			if err != nil {
				return err
			}
			dangling, given, err := f.Bool("dangling")
			if err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			named, err := f.Matching("name")
			if err != nil {
				return err
			}
			list, err := e.Volumes(cmd.Context(), size)
			if err != nil {
				return err
			}
			list, untold := e.AskPlugins(cmd.Context(), list)
			p.tellUntold(untold, "its other volumes are not listed")
			rows := []volumeRow{}
			for _, v := range list {
				if v.Elsewhere && given { // who uses it is not known here
					continue
				}
				if f.Exactly("driver", v.Driver) && f.Labels("label", v.Labels) &&
					named(v.Name) &&
					(!given || dangling == (len(v.Containers) == 0)) {
					rows = append(rows, rowOfVolume(v))
				}
			}
			if quiet && format == "" {
				for _, r := range rows {
					fmt.Fprintln(p.Out, r.Name)
				}
				return nil
			}
			columns := []present.Column{{Field: "Driver", Title: "DRIVER"}, {Field: "Name", Title: "VOLUME NAME"}}
			if size {
				columns = append(columns, present.Column{Field: "Links", Title: "LINKS"}, present.Column{Field: "Size", Title: "SIZE"}, present.Column{Field: "Limit", Title: "LIMIT"})
			}
			return present.Rows(p.text(), present.List{Format: format, Columns: columns}, rows)
		},
	}
	set := cmd.Flags()
	set.StringArrayVarP(&filters, "filter", "f", nil, "only those with `KEY=VALUE`: "+strings.Join(volumeFilters, ", "))
	set.StringVar(&format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	set.BoolVarP(&quiet, "quiet", "q", false, "print names alone")
	set.BoolVarP(&size, "size", "s", false, "print how many containers have them and what they take on disk, too")
	return cmd
}

// tellUntold warns of plugins that did not answer.
func (p *Program) tellUntold(untold []error, meaning string) {
	for _, err := range untold {
		fmt.Fprintf(p.Err, "containr: warning: %v: %s\n", err, meaning)
	}
}

func rowOfVolume(v engine.UsedVolume) volumeRow {
	r := volumeRow{Name: v.Name, Driver: v.Driver, Scope: cmp.Or(v.Scope, plugin.ScopeLocal), Mountpoint: v.Path, Links: "N/A", Size: "N/A", Limit: "N/A", CreatedAt: "N/A", labels: v.Labels}
	if !v.Created.IsZero() {
		r.CreatedAt = present.At(v.Created)
	}
	if v.Bytes >= 0 {
		r.Links, r.Size = strconv.Itoa(len(v.Containers)), present.Size(v.Bytes)
	}
	if v.Limit.Bytes > 0 {
		r.Limit = present.Size(v.Limit.Bytes)
	}
	var labels []string
	for key, value := range v.Labels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	r.Labels = strings.Join(labels, ",")
	return r
}

// inspectedVolume is a volume in docker's form.
type inspectedVolume struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	// Containers are the names of those that have it, and SnapshotOf the volume that it is a state of.
	Containers []string
	SnapshotOf string `json:",omitempty"`
	// Status is what the volume's plugin says besides.
	Status map[string]any `json:",omitempty"`
	// Limit is how many bytes one with a size can hold, and Used how many are.
	Limit int64 `json:",omitempty"`
	Used  int64 `json:",omitempty"`
}

func (p *Program) volumeInspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect [FLAGS] VOLUME...", Short: "Print all that is known of volumes",
		Long: "Print all that is known of volumes, as JSON in docker's form, with the containers that have them.",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			found := []inspectedVolume{}
			var failures []error
			for _, name := range args {
				v, err := e.Volume(cmd.Context(), name)
				if err != nil {
					failures = append(failures, err)
					continue
				}
				if err := e.AskPlugin(cmd.Context(), &v); err != nil {
					p.tellUntold([]error{err}, "what it says of volume "+name+" is missing")
				}
				i := inspectedVolume{CreatedAt: v.Created.Format(time.RFC3339), Driver: v.Driver, Labels: v.Labels, Mountpoint: v.Path, Name: v.Name,
					Options: v.Options, Scope: cmp.Or(v.Scope, plugin.ScopeLocal), Containers: v.Containers, SnapshotOf: v.Of, Status: v.Status,
					Limit: v.Limit.Bytes, Used: v.Limit.Used}
				if i.Containers == nil {
					i.Containers = []string{}
				}
				found = append(found, i)
			}
			if err := present.Documents(p.text(), format, found); err != nil {
				return err
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print as json, or by a `TEMPLATE` (Go's)")
	return cmd
}

func (p *Program) volumeRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm [FLAGS] VOLUME...", Aliases: []string{"remove"}, Short: "Remove volumes and all that is in them",
		Long: "Remove volumes and all that is in them. One that a container has, whether it runs or not, is not removed.\n\n" +
			"A plugin is asked first to remove what it keeps. If it is away, or does not answer, --force removes what containr has noted and says so.",
		Args: minArgs(1), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := p.engine()
			if err != nil {
				return err
			}
			var failures []error
			var removed []volume.Volume
			for _, name := range args {
				v, err := p.removeVolume(cmd.Context(), e, name, force)
				if force && errors.Is(err, volume.ErrNotFound) {
					continue
				}
				if err != nil {
					failures = append(failures, err)
					continue
				}
				fmt.Fprintln(p.Out, v.Name)
				removed = append(removed, v)
			}
			for _, v := range removed {
				failures = append(failures, p.tellSnapshots(e, v))
			}
			return errors.Join(failures...)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not complain about one that is not there, and forget one whose plugin is away")
	return cmd
}

// removeVolume removes a volume. With force it says what a plugin that is away was not asked for.
func (p *Program) removeVolume(ctx context.Context, e *engine.Engine, name string, force bool) (volume.Volume, error) {
	if !force {
		return e.RemoveVolume(ctx, name)
	}
	v, untold, err := e.ForgetVolume(ctx, name)
	if err == nil && untold != nil {
		_, err = fmt.Fprintf(p.Err, "containr: volume %s: it is forgotten here, and %s was not asked to remove what it keeps: %v\n", name, v.Driver, untold)
	}
	return v, err
}

// tellSnapshots says what is left of a volume that was removed.
func (p *Program) tellSnapshots(e *engine.Engine, v volume.Volume) error {
	kept, err := e.VolumeSnapshots(v.Name)
	if err != nil || len(kept) == 0 {
		return err
	}
	_, err = fmt.Fprintf(p.Err, "containr: what was kept of it stays: `containr volume rm %s` removes that, `containr volume clone %s %s` brings it back\n",
		strings.Join(kept, " "), kept[len(kept)-1], v.Name)
	return err
}

func (p *Program) volumePruneCommand() *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use: "prune [FLAGS]", Short: "Remove the volumes that no container has",
		Long: "Remove the volumes without a name that no container has, and with --all those with a name too. Snapshots stay.",
		Args: exactArgs(0), DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := present.ParseFilters(filters, "all", "label", "label!")
			if err != nil {
				return err
			}
			named, _, err := f.Bool("all")
			if err != nil {
				return err
			}
			all = all || named
			e, err := p.engine()
			if err != nil {
				return err
			}
			what := "all volumes without a name that no container has"
			if all {
				what = "all volumes that no container has"
			}
			if err := p.confirm(cmd.Context(), "prune", what, force); err != nil {
				return err
			}
			gone, freed, err := e.PruneVolumes(cmd.Context(), func(v volume.Volume) bool {
				return (all || v.Anonymous) && f.Labels("label", v.Labels) && f.NoLabels("label!", v.Labels)
			})
			for i, v := range gone {
				if i == 0 {
					fmt.Fprintln(p.Out, "Deleted Volumes:")
				}
				fmt.Fprintln(p.Out, v.Name)
			}
			if err == nil {
				_, err = fmt.Fprintf(p.Out, "Total reclaimed space: %s\n", present.Size(freed))
			}
			return err
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&all, "all", "a", false, "remove those with a name, too")
	set.BoolVarP(&force, "force", "f", false, "do not ask")
	set.StringArrayVar(&filters, "filter", nil, "only those with `KEY=VALUE`: all, label, label!")
	return cmd
}
