package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// pullsOfLarge are those of large images, in memory.
func (b *bench) pullsOfLarge() (tables []table, err error) {
	err = b.inMemory("pulls", func(inner *bench) (err error) {
		tables, err = inner.large()
		return err
	})
	return tables, err
}

// large compares pulls of images that take their time: one of few large files in several layers, one of very many small ones.
func (b *bench) large() (tables []table, err error) {
	for _, image := range []struct {
		name, text string
		layers     []content
	}{
		{"large", "six layers of large files", madeLayers(6, b.rounds(50), 1<<20)},
		{"small-files", "three layers of small files", madeLayers(3, b.rounds(20_000), 1<<10)},
	} {
		l, err := makeLayout(filepath.Join(b.dir, image.name), tag, image.layers)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf("%s, %.0f MB, %.0f MB compressed with gzip", image.text, float64(l.plain)/1e6, float64(l.compressed)/1e6)
		t, err := b.largePulls(l, image.name, text)
		if err = errors.Join(err, os.RemoveAll(l.dir)); err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// madeLayers are layers of n files with about size bytes of which gzip saves half. They are the same each time.
func madeLayers(layers, n, size int) (all []content) {
	for layer := range layers {
		all = append(all, func(w io.Writer) (sum int64, err error) {
			random := rand.New(rand.NewPCG(uint64(layer), uint64(size)))
			out := tar.NewWriter(w)
			data := make([]byte, 2*size)
			for i := range n {
				file := data[:size/2+random.IntN(size)]
				for k := range file {
					file[k] = byte(random.IntN(16)) // half of its bits
				}
				h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("layer%d/dir%d/file%d", layer, i/100, i), Mode: 0o644, Size: int64(len(file)), ModTime: time.Unix(1e9, 0)}
				if err := out.WriteHeader(h); err != nil {
					return 0, err
				}
				if _, err := out.Write(file); err != nil {
					return 0, err
				}
				sum += int64(len(file))
			}
			return sum, out.Close()
		})
	}
	return all
}

// largePulls races from a registry to a root file system, against peers and against the parts of the work.
func (b *bench) largePulls(l *layout, repository, text string) (t table, err error) {
	host, stop, err := serveLayout(l, repository, tag)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	name := host + "/" + repository + ":" + tag
	var manifest v1.Manifest
	if err := l.readJSON(l.manifest, &manifest); err != nil {
		return t, err
	}
	files, err := l.entries(manifest.Layers)
	if err != nil {
		return t, err
	}
	c := []*contestant{
		{name: "`containr pull`", turn: func(round int) (sample, error) { return b.pull(name, round) }, peak: func() (float64, error) { return b.pullPeak(name) }},
		{name: "the network alone", turn: func(int) (sample, error) {
			return fetchAll("http://"+host+"/v2/"+repository+"/blobs/", manifest.Layers)
		}},
		{name: "inflating alone", turn: func(int) (sample, error) { return l.inflateAll(manifest.Layers) }},
		{name: "the files alone", turn: func(int) (sample, error) { return b.makeAll(files) }},
		{name: "the floor, alone", turn: func(int) (sample, error) { return b.floor(l, manifest.Layers, files) }},
	}
	more, end, err := b.largePeers(name)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return t, err
	}
	c = append(c, more...)
	if err := race(b.ctx, options{rounds: b.rounds(4), warmUp: 1, before: settle}, c); err != nil {
		return t, err
	}
	return costTable("Pull: "+text, "From a registry on the loopback interface that only sends files, to a root file system in memory. Processor time, memory and "+
		"what was written are those of the command and of the daemon that works for it; what was written counts bytes given to write(2), pipes included. "+
		"What the network takes alone, inflating all layers on all processors alone, and alone the four calls for each file (openat, pwrite, utimensat, close) "+
		"were measured in the same rounds. The floor is all that nobody can do without who verifies what is pulled: inflating, hashing what comes and what is "+
		"inflated, the blobs and the files; as a pull does it, with four layers at a time and three goroutines for each, but from files that are there, with nothing parsed.", c)
}

// largePeers are those who pull too, and what ends their daemons.
func (b *bench) largePeers(name string) (c []*contestant, end func() error, err error) {
	var ends []func() error
	end = func() (err error) {
		for _, stop := range ends {
			err = errors.Join(err, stop())
		}
		return err
	}
	if b.found("dockerd", "docker") {
		d, err := b.startDocker()
		if err != nil {
			return nil, end, err
		}
		ends = append(ends, d.stop)
		c = append(c, d.contestant("`docker pull`", d.docker("pull", "--quiet", name), func() error {
			_, err := cmd(d.docker("rmi", name)...).measure()
			return err
		}))
	}
	if b.found("containerd", "ctr") {
		d, err := b.startContainerd()
		if err != nil {
			return nil, end, err
		}
		ends = append(ends, d.stop)
		c = append(c, d.contestant("`ctr images pull`", d.ctr("images", "pull", "--plain-http", name), d.dropImages))
	}
	if b.found("skopeo", "umoci") {
		c = append(c, &contestant{name: "`skopeo copy`, `umoci unpack`", turn: func(int) (s sample, err error) {
			err = b.copyAndUnpack(name, func(c ...command) (err error) {
				s, err = all(c...)
				return err
			})
			return s, err
		}, peak: func() (kB float64, err error) {
			err = b.copyAndUnpack(name, func(commands ...command) error {
				for _, c := range commands {
					most, err := c.peakMemory()
					if err != nil {
						return err
					}
					kB = max(kB, most)
				}
				return nil
			})
			return kB, err
		}})
	}
	return c, end, nil
}

// contestant is a command that has a daemon work; undo removes what it has made.
func (d *daemon) contestant(name string, argv []string, undo func() error) *contestant {
	return &contestant{name: name, turn: func(int) (sample, error) {
		before, err := d.spent()
		if err != nil {
			return sample{}, err
		}
		s, err := cmd(argv...).measure()
		if err != nil {
			return s, err
		}
		after, err := d.spent()
		s.cpu, s.written = s.cpu+after.cpu-before.cpu, s.written+after.written-before.written
		return s, errors.Join(err, undo())
	}, peak: d.peak}
}

// copyAndUnpack lets do fetch an image with skopeo and unpack it with umoci.
func (b *bench) copyAndUnpack(name string, do func(...command) error) error {
	dir := filepath.Join(b.dir, "skopeo")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		return err
	}
	umoci, err := exec.LookPath("umoci")
	if err != nil {
		return err
	}
	err = do(cmd(skopeo, "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "docker://"+name, "oci:"+dir+"/layout:x"),
		cmd(umoci, "unpack", "--image", dir+"/layout:x", dir+"/bundle"))
	return errors.Join(err, os.RemoveAll(dir))
}

// pullPeak is the most that a pull has in memory, in kB.
func (b *bench) pullPeak(name string) (kB float64, err error) {
	e, err := b.newEngine("peak")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.remove()) }()
	return e.command("pull", "--plain-http", "--quiet", name).peakMemory()
}

// fetchAll fetches blobs at the same time and drops them.
func fetchAll(base string, blobs []v1.Descriptor) (sample, error) {
	begin := time.Now()
	var group errgroup.Group
	for _, d := range blobs {
		group.Go(func() error {
			resp, err := http.Get(base + d.Digest.String())
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		})
	}
	err := group.Wait()
	return sample{wall: time.Since(begin)}, err
}

// inflateAll inflates layers on all processors and drops what comes.
func (l *layout) inflateAll(layers []v1.Descriptor) (sample, error) {
	return onAll(layers, func(d v1.Descriptor) error {
		f, err := os.Open(l.blob(d.Digest.String()))
		if err != nil {
			return err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, z)
		return err
	})
}

// onAll does the work for each part on all processors, and says what that took.
func onAll[T any](parts []T, work func(T) error) (s sample, err error) {
	return onSome(parts, runtime.GOMAXPROCS(0), work)
}

// onSome does the work for each part, for so many at once, and says what that took.
func onSome[T any](parts []T, atOnce int, work func(T) error) (s sample, err error) {
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		return s, err
	}
	begin := time.Now()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, p := range parts {
		group.Go(func() error { return work(p) })
	}
	err = group.Wait()
	s.wall = time.Since(begin)
	err = errors.Join(err, unix.Getrusage(unix.RUSAGE_SELF, &after))
	s.cpu = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	return s, err
}

// file is one file of a layer.
type file struct {
	name string
	size int64
}

// entries lists the files of each layer.
func (l *layout) entries(layers []v1.Descriptor) (all [][]file, err error) {
	for _, d := range layers {
		f, err := os.Open(l.blob(d.Digest.String()))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, err
		}
		var files []file
		in := tar.NewReader(z)
		h, err := in.Next()
		for ; err == nil; h, err = in.Next() {
			files = append(files, file{h.Name, h.Size})
		}
		if err != io.EOF {
			return nil, err
		}
		all = append(all, files)
	}
	return all, nil
}

// makeAll makes files of these sizes with as few calls as it takes to have files with times, each layer's in a goroutine.
func (b *bench) makeAll(layers [][]file) (s sample, err error) {
	dir := filepath.Join(b.dir, "files")
	if err := errors.Join(os.Mkdir(dir, 0o700), makeDirs(dir, layers)); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return onAll(layers, func(files []file) error { return makeFiles(dir, files) })
}

// makeDirs makes the directories of files.
func makeDirs(dir string, layers [][]file) error {
	for _, files := range layers {
		for _, f := range files {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f.name)), 0o700); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeFiles makes the files of one layer.
func makeFiles(root string, files []file) error {
	data := make([]byte, 256<<10)
	return makeFilesWith(root, files, func(size int64, write func([]byte) error) (err error) {
		for done := int64(0); done < size && err == nil; done += int64(len(data)) {
			err = write(data[:min(int64(len(data)), size-done)])
		}
		return err
	})
}

// makeFilesWith makes the files of one layer; fill writes what is to be in each, in one piece or several.
func makeFilesWith(root string, files []file, fill func(size int64, write func([]byte) error) error) error {
	at, dir := "", -1
	defer func() { unix.Close(dir) }()
	for _, f := range files {
		if path := filepath.Join(root, filepath.Dir(f.name)); path != at {
			unix.Close(dir)
			var err error
			if dir, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
			at = path
		}
		fd, err := unix.Openat(dir, filepath.Base(f.name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		done := int64(0)
		err = fill(f.size, func(data []byte) error {
			n, err := unix.Pwrite(fd, data, done)
			done += int64(n)
			return err
		})
		times := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}
		if err := errors.Join(err, unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH), unix.Close(fd)); err != nil {
			return err
		}
	}
	return nil
}

// costTable is a race's times with what else was spent.
func costTable(title, text string, contestants []*contestant) (table, error) {
	t := raceTable(title, text, contestants)
	t.head = []string{"", "n", "median ms", "CPU ms", "peak MB", "written MB", "ours / this"}
	for i, c := range contestants {
		var written []float64
		for _, s := range c.samples {
			written = append(written, float64(s.written)/1e6)
		}
		row := t.rows[i]
		cpu, wrote, peak := row[5], number(summarize(written).median), ""
		if strings.HasSuffix(c.name, "alone") {
			wrote = ""
			if c.samples[0].cpu == 0 {
				cpu = ""
			}
		}
		if c.peak != nil {
			kB, err := c.peak()
			if err != nil {
				return t, fmt.Errorf("%s: %w", c.name, err)
			}
			peak = number(kB / 1e3)
		}
		t.rows[i] = []string{row[0], row[1], row[2], cpu, peak, wrote, row[6]}
	}
	return t, nil
}
