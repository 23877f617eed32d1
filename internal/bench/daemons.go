package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// daemon is a daemon that runs for the benchmark alone, below its directory.
type daemon struct {
	process *exec.Cmd
	socket  string
	log     string
}

// startDaemon starts a daemon and waits until the command ready succeeds.
func (b *bench) startDaemon(name, socket string, ready []string, argv ...string) (*daemon, error) {
	d := &daemon{socket: socket, log: filepath.Join(b.dir, name+".log"), process: exec.Command(argv[0], argv[1:]...)}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	return d, d.await(ready)
}

// await tries the command ready for half a minute; the daemon has no other way to
// tell.
func (d *daemon) await(ready []string) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		said, err := exec.Command(ready[0], ready[1:]...).CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(d.log) // only for the message
			return errors.Join(fmt.Errorf("%s is not ready: %w: %s\n%s", d.process.Path, err, said, text), d.stop())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stop ends the daemon, and waits for it.
func (d *daemon) stop() error {
	if err := d.process.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := d.process.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// docker returns the command line of a client of the daemon.
func (d *daemon) docker(args ...string) []string {
	path, err := exec.LookPath("docker")
	if err != nil {
		path = "docker"
	}
	return append([]string{path, "-H", "unix://" + d.socket}, args...)
}

// ctr returns the command line of containerd's client.
func (d *daemon) ctr(args ...string) []string {
	path, err := exec.LookPath("ctr")
	if err != nil {
		path = "ctr"
	}
	return append([]string{path, "--address", d.socket}, args...)
}

// startDocker starts a dockerd, which starts its own containerd. It touches neither
// links nor firewall.
func (b *bench) startDocker() (*daemon, error) {
	root := filepath.Join(b.dir, "docker")
	d := &daemon{socket: filepath.Join(b.dir, "docker.sock")}
	return b.startDaemon("dockerd", d.socket, d.docker("version"), "dockerd", "-H", "unix://"+d.socket,
		"--data-root", root, "--exec-root", filepath.Join(b.state, "docker"), "--pidfile", filepath.Join(b.state, "dockerd.pid"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--cgroup-parent="+group)
}

// startContainerd starts a containerd.
func (b *bench) startContainerd() (*daemon, error) {
	config := filepath.Join(b.dir, "containerd.toml")
	if err := os.WriteFile(config, []byte("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"), 0o644); err != nil {
		return nil, err
	}
	d := &daemon{socket: filepath.Join(b.dir, "containerd.sock")}
	return b.startDaemon("containerd", d.socket, d.ctr("version"), "containerd", "--config", config, "--address", d.socket,
		"--root", filepath.Join(b.dir, "containerd"), "--state", filepath.Join(b.state, "containerd"))
}

// found reports whether all programs are there, and notes those that are not.
func (b *bench) found(programs ...string) bool {
	all := true
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			b.lacks(p)
			all = false
		}
	}
	return all
}

// tagged is a further image of a layout, and its tag.
type tagged struct {
	tag      string
	manifest v1.Descriptor
}

// serveLayout serves one image layout under one name, and a tag for each image, on a port of the
// loopback interface, as a registry does that knows nothing but to send files. It
// returns host:port and what stops it.
func serveLayout(layout *layout, name, tag string, more ...tagged) (host string, stop func() error, err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/"+name+"/blobs/{digest}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeFile(w, r, layout.blob(r.PathValue("digest")))
	})
	mux.HandleFunc("GET /v2/"+name+"/manifests/{reference}", func(w http.ResponseWriter, r *http.Request) {
		for _, t := range append(more, tagged{tag, layout.manifest}) {
			if ref := r.PathValue("reference"); ref == t.tag || ref == t.manifest.Digest.String() {
				w.Header().Set("Content-Type", t.manifest.MediaType)
				w.Header().Set("Docker-Content-Digest", t.manifest.Digest.String())
				http.ServeFile(w, r, layout.blob(t.manifest.Digest.String()))
				return
			}
		}
		http.NotFound(w, r)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: mux}
	go server.Serve(listener) // it ends with ErrServerClosed
	return listener.Addr().String(), server.Close, nil
}
