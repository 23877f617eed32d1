package cli_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/containr/containr/internal/testkit/program"
)

// keeper NAME DIRECTORY serves a volume plugin at NAME.sock in the directory, until the script ends. Its volumes are directories
// below it, its count of who has mounted them are files NAME.ID, and NAME.log tells what it was asked for. What it answers about
// volumes with some names it may not. It says of itself that it is global, and lists besides the names that are in NAME.lists. While there is a file NAME.hangs it answers nothing, and notes each question in NAME.unanswered.
func serveVolumes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: keeper NAME DIRECTORY")
	}
	dir := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(dir, 0o755))
	k := &volumeKeeper{root: ts.Getenv(program.RootVar), dir: dir, log: filepath.Join(dir, args[0]+".log"), hangs: filepath.Join(dir, args[0]+".hangs"), unanswered: filepath.Join(dir, args[0]+".unanswered")}
	listener, err := net.Listen("unix", filepath.Join(dir, args[0]+".sock"))
	ts.Check(err)
	server := &http.Server{Handler: k}
	go server.Serve(listener)
	ts.Defer(func() { server.Close() })
}

type volumeKeeper struct {
	root, dir, log, hangs, unanswered string
	mu                                sync.Mutex
}

// ServeHTTP answers one request of the protocol.
func (k *volumeKeeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Name, ID string
		Opts     map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := os.Stat(k.hangs); err == nil {
		k.hang(w, r)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	answer := map[string]any{"Err": ""}
	verb := strings.TrimPrefix(r.URL.Path, "/VolumeDriver.")
	if r.URL.Path == "/Plugin.Activate" {
		json.NewEncoder(w).Encode(map[string]any{"Implements": []string{"VolumeDriver"}})
		return
	}
	if err := k.note(fmt.Sprintf("%s %s %v", verb, asked.Name, asked.Opts)); err != nil {
		answer["Err"] = err.Error()
	}
	place := filepath.Join(k.dir, "volume-"+asked.Name)
	counted := filepath.Join(k.dir, asked.Name+"."+asked.ID)
	var err error
	switch verb {
	case "Create":
		if asked.Opts["fail"] != "" {
			err = fmt.Errorf("no room for %s", asked.Name)
		} else {
			err = os.MkdirAll(place, 0o755)
		}
	case "Remove":
		if err = os.RemoveAll(place); err == nil {
			err = k.note("removed " + asked.Name)
		}
	case "Get":
		_, err = os.Stat(place)
		answer["Volume"] = map[string]any{"Name": asked.Name, "Mountpoint": place, "Status": map[string]any{"shelf": 3}}
	case "List":
		answer["Volumes"], err = k.list()
	case "Capabilities":
		answer["Capabilities"] = map[string]any{"Scope": "global"}
	case "Mount":
		err = os.WriteFile(counted, nil, 0o600)
		answer["Mountpoint"] = k.mountPoint(asked.Name, place)
		switch asked.Name {
		case "huge":
			w.Write([]byte(`{"Mountpoint":"` + strings.Repeat("/x", 1<<20) + `"}`))
			return
		case "garbage":
			w.Write([]byte("<html>"))
			return
		}
	case "Unmount":
		err = os.Remove(counted)
	default:
		err = fmt.Errorf("unknown verb %s", verb)
	}
	if err != nil {
		answer["Err"] = err.Error()
	}
	json.NewEncoder(w).Encode(answer)
}

// list is what List answers: all that it keeps, and the lines of NAME.lists as names.
func (k *volumeKeeper) list() (all []map[string]any, err error) {
	kept, err := filepath.Glob(filepath.Join(k.dir, "volume-*"))
	for _, place := range kept {
		all = append(all, map[string]any{"Name": strings.TrimPrefix(filepath.Base(place), "volume-"), "Mountpoint": place})
	}
	text, _ := os.ReadFile(strings.TrimSuffix(k.log, ".log") + ".lists") // most scripts have none
	for _, name := range strings.Fields(string(text)) {
		all = append(all, map[string]any{"Name": name, "CreatedAt": "2026-11-02T03:04:05Z"})
	}
	return all, err
}

// hang answers nothing until who asked has gone.
func (k *volumeKeeper) hang(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	err := appendLine(k.unanswered, r.URL.Path)
	k.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	<-r.Context().Done()
}

// mountPoint is where a volume is, or what is no such place.
func (k *volumeKeeper) mountPoint(name, place string) string {
	switch name {
	case "relative":
		return "volume-relative"
	case "dotted":
		return k.dir + "/x/../volume-dotted"
	case "missing":
		return place + "-not"
	case "top":
		return "/"
	case "process", "device":
		return map[string]string{"process": "/proc/sys", "device": "/dev/pts"}[name]
	case "kernel":
		return "/sys/kernel"
	case "others":
		return filepath.Join(k.root, "volumes")
	case "own":
		return k.root
	case "above":
		return filepath.Dir(k.root)
	case "file":
		return k.log
	case "link":
		link := filepath.Join(k.dir, "a-link")
		os.Remove(link)
		if err := os.Symlink("/etc", link); err != nil {
			return err.Error()
		}
		return link
	}
	return place
}

func (k *volumeKeeper) note(line string) error { return appendLine(k.log, line) }

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, line)
	return err
}
