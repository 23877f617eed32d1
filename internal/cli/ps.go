package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/present"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/image"
)

// psFlags are those of ps.
type psFlags struct {
	all, quiet, latest, full, size bool
	last                           int
	filters                        []string
	format                         string
}

func (p *Program) psCommand() *cobra.Command {
	f := new(psFlags)
	cmd := &cobra.Command{
		Use:     "ps [FLAGS]",
		Short:   "List containers",
		GroupID: groupRun,
		Long: "List containers: those that run, or with -a all. The filter name is a regular expression; ancestor also finds\n" +
			"containers of images that are built on the one it names.",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			debug.SetGCPercent(400) // of thousands of containers there is much to read, and then we end
			e, err := p.engine()
			if err != nil {
				return err
			}
			list, err := e.List(cmd.Context())
			if err != nil {
				return err
			}
			return p.printContainers(cmd.Context(), e, list, f)
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&f.all, "all", "a", false, "those that do not run too")
	set.StringArrayVarP(&f.filters, "filter", "f", nil, "only those with `KEY=VALUE`: "+strings.Join(psFilters, ", "))
	set.StringVar(&f.format, "format", "", "print as table, 'table `TEMPLATE`', json or TEMPLATE (Go's)")
	set.IntVarP(&f.last, "last", "n", -1, "the last `NUMBER` that were made, whatever they do")
	set.BoolVarP(&f.latest, "latest", "l", false, "the last one that was made")
	set.BoolVar(&f.full, "no-trunc", false, "print whole ids and commands")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "print ids alone")
	set.BoolVarP(&f.size, "size", "s", false, "print how much they have written")
	return cmd
}

// psFilters are the keys of --filter.
var psFilters = []string{"ancestor", "before", "exited", "id", "label", "name", "network", "publish", "expose", "since", "status", "volume", "health"}

// statuses are the values of the filter status.
var statuses = []string{"created", "restarting", "running", "removing", "paused", "exited", "dead"}

// containerRow is one line of ps, and what a template may name.
type containerRow struct {
	ID, Image, Command, CreatedAt, RunningFor, Ports, State, Status, Size string
	Names, Labels, Mounts, Networks, LocalVolumes                         string
	// Users are those of the container's on the host, as --uidmap takes them; empty for the host's own.
	Users  string
	labels map[string]string
}

// Label is the value of a label.
func (r containerRow) Label(name string) string { return r.labels[name] }

var containerColumns = []present.Column{
	{Field: "ID", Title: "CONTAINER ID"}, {Field: "Image", Title: "IMAGE"}, {Field: "Command", Title: "COMMAND"},
	{Field: "RunningFor", Title: "CREATED"}, {Field: "Status", Title: "STATUS"}, {Field: "Ports", Title: "PORTS"}, {Field: "Names", Title: "NAMES"},
}

func (p *Program) printContainers(ctx context.Context, e *engine.Engine, list []engine.Container, f *psFlags) error {
	list, err := f.choose(list, func(image string) (map[string]bool, error) { return descendants(ctx, e, image) })
	if err != nil {
		return err
	}
	if f.quiet && f.format == "" {
		for _, c := range list {
			if _, err := fmt.Fprintln(p.Out, present.ID(c.ID, f.full)); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([]containerRow, 0, len(list))
	for _, c := range list {
		row := psRow(c, f.full, time.Now())
		if f.size || strings.Contains(f.format, ".Size") {
			size, err := e.LayerSize(c.Record)
			if err != nil {
				return err
			}
			row.Size = present.Size(size)
		}
		rows = append(rows, row)
	}
	l := present.List{Format: f.format, Columns: containerColumns}
	if f.size {
		l.Columns = append(slices.Clone(containerColumns), present.Column{Field: "Size", Title: "SIZE"})
	}
	return present.Rows(p.text(), l, rows)
}

// choose leaves those that the flags ask for, in the memory of list: a thousand containers are two megabytes. basedOn
// returns the images, by the digests of their configurations, that are built on one.
func (f *psFlags) choose(list []engine.Container, basedOn func(image string) (map[string]bool, error)) ([]engine.Container, error) {
	filters, err := present.ParseFilters(f.filters, psFilters...)
	if err != nil {
		return nil, err
	}
	match, err := psMatcher(filters, list, basedOn)
	if err != nil {
		return nil, err
	}
	last := f.last
	if f.latest {
		last = 1
	}
	all := f.all || last >= 0 || filters.Has("status") || filters.Has("exited")
	out := list[:0]
	for i := range list {
		c := &list[i]
		if (all || c.State.PID != 0 || c.State.Status == container.Restarting) && match(c) && (last < 0 || len(out) < last) {
			out = append(out, *c)
		}
	}
	return out, nil
}

// psMatcher returns what tells whether a container meets the filters.
func psMatcher(f present.Filters, list []engine.Container, basedOn func(image string) (map[string]bool, error)) (func(*engine.Container) bool, error) {
	for _, s := range f["status"] {
		if !slices.Contains(statuses, s) {
			return nil, &present.Error{Text: fmt.Sprintf("--filter status=%s: there is no such status", s), Hint: "statuses are " + strings.Join(statuses, ", ")}
		}
	}
	for _, s := range f["exited"] {
		if _, err := strconv.Atoi(s); err != nil {
			return nil, &present.Error{Text: fmt.Sprintf("--filter exited=%s: it is not a number", s)}
		}
	}
	before, err := createdBy(f, "before", list)
	if err != nil {
		return nil, err
	}
	since, err := createdBy(f, "since", list)
	if err != nil {
		return nil, err
	}
	named, err := f.Matching("name")
	if err != nil {
		return nil, err
	}
	built := map[string]map[string]bool{}
	for _, image := range f["ancestor"] {
		if built[image], err = basedOn(image); err != nil {
			return nil, err
		}
	}
	return func(c *engine.Container) bool {
		return f.Any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
			named(c.Name, "/"+c.Name) &&
			f.Labels("label", c.Config.Labels) &&
			f.Exactly("status", string(c.State.Status)) &&
			f.Any("exited", func(v string) bool {
				return c.State.Status == container.Exited && v == strconv.Itoa(c.State.ExitCode)
			}) &&
			f.Any("ancestor", func(v string) bool { return isAncestor(*c, v) || built[v][c.ConfigDigest] }) &&
			f.Any("volume", func(v string) bool {
				return slices.ContainsFunc(c.Config.Mounts, func(m container.Mount) bool { return m.Source == v || m.Target == v })
			}) &&
			f.Any("network", func(v string) bool { return inNetwork(*c, v) }) &&
			f.Exactly("health", health(c.State)) &&
			f.Any("publish", func(v string) bool {
				return hasPort(c.Published, v, func(p container.Port) uint16 { return p.HostPort })
			}) &&
			f.Any("expose", func(v string) bool { return exposes(*c, v) }) &&
			(before.IsZero() || c.Created.Before(before)) && c.Created.After(since)
	}, nil
}

// networksOf are the names of the networks that a container is in, or the word for what it
// has in their place.
func networksOf(c engine.Container) []string {
	var names []string
	for _, endpoint := range c.Endpoints {
		names = append(names, endpoint.Network)
	}
	if names == nil {
		return []string{c.Config.Namespaces.Network}
	}
	return names
}

func inNetwork(c engine.Container, v string) bool {
	return slices.Contains(networksOf(c), v) || slices.ContainsFunc(c.Endpoints, func(p container.Endpoint) bool {
		return len(v) >= 4 && strings.HasPrefix(p.NetworkID, v)
	})
}

// portsOf lists the ports that lead to a container that runs.
func portsOf(c engine.Container) string {
	if c.State.PID == 0 {
		return ""
	}
	var list []string
	for _, p := range c.Reached() {
		for _, host := range hostAddresses(p) {
			list = append(list, fmt.Sprintf("%s->%d/%s", host, p.Port, p.Protocol))
		}
	}
	return strings.Join(list, ", ")
}

// hasPort reports whether one of the ports is meant by PORT[-LAST][/PROTOCOL].
func hasPort(ports []container.Port, v string, of func(container.Port) uint16) bool {
	wanted, err := container.ParseExposed(v)
	return err == nil && slices.ContainsFunc(ports, func(p container.Port) bool {
		return slices.Contains(wanted, fmt.Sprintf("%d/%s", of(p), p.Protocol))
	})
}

// exposes reports whether a container publishes, or says that it listens at, PORT[-LAST][/PROTOCOL].
func exposes(c engine.Container, v string) bool {
	wanted, err := container.ParseExposed(v)
	said := slices.ContainsFunc(c.Config.Expose, func(p string) bool { return slices.Contains(wanted, p) })
	return err == nil && said || hasPort(c.Published, v, func(p container.Port) uint16 { return p.Port })
}

// isAncestor reports whether a container was made of an image.
func isAncestor(c engine.Container, image string) bool {
	name, _, _ := strings.Cut(c.Config.Image, "@")
	return c.Config.Image == image || name+":latest" == image || strings.TrimSuffix(name, ":latest") == image ||
		len(image) >= 4 && strings.HasPrefix(strings.TrimPrefix(c.ConfigDigest, "sha256:"), strings.TrimPrefix(image, "sha256:"))
}

// descendants are the images of the store, by the digests of their configurations, that have all layers of an image and something
// on top of them. An image that is not there has none.
func descendants(ctx context.Context, e *engine.Engine, name string) (map[string]bool, error) {
	of, err := e.InspectImage(ctx, engine.InspectRequest{Name: name})
	if errors.Is(err, image.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--filter ancestor=%s: %w", name, err)
	}
	list, err := e.Images()
	if err != nil {
		return nil, err
	}
	layers, built := of.Config.RootFS.DiffIDs, map[string]bool{}
	for _, l := range list {
		for _, img := range l.Images {
			theirs := img.Config.RootFS.DiffIDs
			if len(theirs) >= len(layers) && slices.Equal(theirs[:len(layers)], layers) &&
				len(theirs)+len(img.Config.History) > len(layers)+len(of.Config.History) {
				built[img.ConfigDigest.String()] = true
			}
		}
	}
	return built, nil
}

// createdBy is when the container that a filter names was made.
func createdBy(f present.Filters, key string, list []engine.Container) (time.Time, error) {
	var at time.Time
	for _, v := range f[key] {
		i := slices.IndexFunc(list, func(c engine.Container) bool { return c.Name == v || strings.HasPrefix(c.ID, v) })
		if i < 0 {
			return at, fmt.Errorf("--filter %s=%s: container %s: %w", key, v, v, container.ErrNotFound)
		}
		at = list[i].Created
	}
	return at, nil
}

// maxCommand is how many characters of a command ps prints.
const maxCommand = 20

func psRow(c engine.Container, full bool, now time.Time) containerRow {
	command := strings.Join(c.Command, " ")
	image := c.Config.Image
	if image == "" {
		image = c.Config.Rootfs
	}
	if !full {
		command = present.Ellipsis(command, maxCommand)
	}
	row := containerRow{ID: present.ID(c.ID, full), Image: image, Command: strconv.Quote(command), CreatedAt: present.At(c.Created),
		RunningFor: present.Since(c.Created, now), State: string(c.State.Status), Status: statusText(c.State, now), Names: c.Name,
		Networks: strings.Join(networksOf(c), ","), Ports: portsOf(c), LocalVolumes: strconv.Itoa(countVolumes(c)), Size: "0B", labels: c.Config.Labels}
	var labels, mounts []string
	for key, value := range c.Config.Labels {
		labels = append(labels, key+"="+value)
	}
	slices.Sort(labels)
	for _, m := range c.Config.Mounts {
		if m.Source != "" {
			mounts = append(mounts, present.Ellipsis(m.Source, 15))
		}
	}
	row.Users = strings.Join(container.FormatIDMaps(c.Config.UIDMap), ",")
	row.Labels, row.Mounts = strings.Join(labels, ","), strings.Join(mounts, ",")
	return row
}

// countVolumes counts the volumes of a container.
func countVolumes(c engine.Container) int {
	n := 0
	for _, m := range c.Config.Mounts {
		if m.Type == container.MountVolume {
			n++
		}
	}
	return n
}

// healthText is what the health checks have found.
func healthText(st container.State) string {
	switch {
	case st.Health == nil:
		return ""
	case st.Health.Status == container.Starting:
		return " (health: starting)"
	}
	return " (" + st.Health.Status + ")"
}

// health is the value of the filter health.
func health(st container.State) string {
	if st.Health == nil {
		return "none"
	}
	return st.Health.Status
}

// statusText says in docker's words what a container is doing.
func statusText(st container.State, now time.Time) string {
	ago := func(t time.Time) string { return present.Since(t, now) }
	up := "Up " + strings.TrimSuffix(ago(st.Started), " ago")
	switch st.Status {
	case container.Running:
		return up + healthText(st)
	case container.Paused:
		return up + " (Paused)"
	case container.Restarting:
		return fmt.Sprintf("Restarting (%d) %s", st.ExitCode, ago(st.Finished))
	case container.Exited:
		if st.Finished.IsZero() {
			return fmt.Sprintf("Exited (%d)", st.ExitCode)
		}
		return fmt.Sprintf("Exited (%d) %s", st.ExitCode, ago(st.Finished))
	}
	return "Created"
}
