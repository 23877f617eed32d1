package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/containr/containr/pkg/container"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRunFlags holds command lines against the configurations that they mean.
func TestRunFlags(t *testing.T) {
	t.Setenv("PASSED_ON", "from outside")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("CONTAINR_RUN_NETWORK", "")
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("web.toml", "[[ingress]]\nfrom = [\"label=a=b\"]\nports = [\"80\", \"icmp\"]\n")
	write("vars", "# comment\nFROM_FILE=1\nPASSED_ON\nNOT_THERE\n")
	write("labels", "a=file\nb=file\n")
	for _, line := range []string{
		"run base",
		"run --rm -it base sh",
		"run -ti --name web --hostname h --domainname d -l a=1 --label b base sh -c 'echo $HOME' --rm",
		"run -h short -e A=1 -e PASSED_ON -e NOT_THERE --env-file vars --env B= base",
		"run --label-file labels -l a=flag --annotation x=y base",
		"run -w /srv -u app:1 --group-add audio --group-add 5 --umask 0077 base",
		"run --entrypoint /bin/sh base -c true",
		"run --entrypoint= base true",
		"run -m 64m --memory-swap -1 --memory-reservation 32m --cpus 1.5 -c 512 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit 100 base",
		"run --cpu-period 50000 --cpu-quota 25000 --ulimit nofile=1024:2048 --ulimit core=-1 --oom-score-adj -5 --cgroup-parent /team base",
		"run --blkio-weight 300 --blkio-weight-device /dev/sda:400 --device-read-bps /dev/sda:10m --device-write-bps /dev/sda:5m --device-read-iops /dev/sda:1000 --device-write-iops /dev/sda:500 --memory-swappiness 10 --oom-kill-disable base",
		"run --volumes-from web:ro --volumes-from db base",
		"run --volume-driver shelf -v data:/data base",
		"run --config app --config other,target=/etc/x,mode=0400,uid=5,gid=6 base",
		"run --secret password --secret token,target=/srv/token,mode=0400,uid=5,gid=6 --secret key,type=env,target=KEY base",
		"run -v ./data:/data:ro -v /a:/b:rshared --mount type=tmpfs,dst=/t,tmpfs-size=1m --tmpfs /run:exec --shm-size 1g --read-only base",
		"run --storage-opt size=1g base",
		"run --device vendor.com/fpga=a --device vendor.com/fpga=b --cdi-spec-dir /specs --gpus 2 --gpus driver=amd base",
		"run --device /dev/fuse:rw --device-cgroup-rule 'c 13:* rw' --privileged base",
		"run --cap-add net_admin --cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=profile.json base",
		"run --security-opt seccomp=unconfined --security-opt systempaths=unconfined --security-opt apparmor=unconfined --security-opt label=disable base",
		"run --security-opt seccomp=strict base",
		"run --security-opt landlock=/tmp:/var/lib --security-opt landlock=/srv base",
		"run --security-opt seccomp=./strict base",
		"run --security-opt seccomp:docker-default base",
		"run --network host --pid host --ipc none --uts host --cgroupns private --userns host base",
		"run --network front --network name=back,ip=10.0.0.2,interface=eth7,gw-priority=5 --ip 10.1.0.2 --ip6 fd00::2 --mac-address 02:00:00:00:00:01 -p 8080:80 -p 127.0.0.1:53:53/udp --publish-policy firewall -P --expose 70 base",
		"run --network front --policy web.toml --ingress name=client,port=80 --ingress cidr=10.0.0.0/8,except=10.1.0.0/16,rate=5/minute --egress deny base",
		"run --net none --uidmap 0:100000:65536 --gidmap 0:100000:65536 --sysctl net.core.somaxconn=5 base",
		"run --userns keep-id:uid=5 --userns-remap dock:er -v /a:/b:idmap base",
		"run --add-host db:10.0.0.1 --dns 9.9.9.9 --dns-search example.org --dns-opt ndots:1 --dns-option edns0 base",
		"run --pull never --platform linux/arm64 --stop-signal SIGUSR1 --init --step --detach-keys ctrl-a base",
		"run --rootfs tree /bin/sh -c true",
		"run -d --restart on-failure:3 --stop-timeout 30 --cidfile id --log-driver local --log-opt max-size=1m --log-opt max-file=2 base",
		"run -d --health-cmd 'test -e /ok' --health-interval 10s --health-timeout 1s --health-retries 2 --health-start-period 1m --health-start-interval 500ms --health-on-failure kill base",
		"run -d --no-healthcheck base",
		"run -d --health-http :8080/ok?a=1 base",
		"run -d --health-tcp [::1]:80 base",
		"run -d --health-grpc 50051/my.Service base",
		"run --rm -- base --flag-of-the-program",
	} {
		t.Run(line, func(t *testing.T) {
			words, err := splitWords(line)
			if err != nil {
				t.Fatal(err)
			}
			config, err := (&Program{}).parseRun(words)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(config, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = bytes.ReplaceAll(got, []byte(dir), []byte("/HERE"))
			compareGolden(t, filepath.Join(testdata, "flags", fileName(line)+".json"), append(got, '\n'))
		})
	}
}

// testdata is absolute, as tests change their directory.
var testdata = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()

// fileName makes a name for a golden file out of a command line.
func fileName(line string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(strings.TrimPrefix(line, "run ")))
	return name[:min(len(name), 60)]
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); -update writes it anew:\n%s", path, diff)
	}
}

// TestEveryConfigFieldHasAFlag: what a Config can say, the command line can.
func TestEveryConfigFieldHasAFlag(t *testing.T) {
	var all container.Config
	merged := map[string]bool{}
	entries, err := os.ReadDir(filepath.Join(testdata, "flags"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(testdata, "flags", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(data, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			merged[name] = true
		}
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range fieldNames(all) {
		if name == "idMapped" { // the machine decides
			continue
		}
		if !merged[name] {
			t.Errorf("no command line of TestRunFlags sets %s", name)
		}
	}
}

// result is what one invocation did.
type invocation struct {
	status   int
	out, err string
}

// invoke runs a command line in this process, with nothing on standard input.
func invoke(t *testing.T, args ...string) invocation {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	return invokeWith(t, in, args...)
}

func invokeWith(t *testing.T, in *os.File, args ...string) invocation {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	out, errs := open("out"), open("err")
	defer out.Close()
	defer errs.Close()
	p := Program{In: in, Out: out, Err: errs}
	status := p.Main(args)
	read := func(f *os.File) string {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return invocation{status, read(out), read(errs)}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct {
		line string
		want string
		hint string
	}{
		{"imges", `unknown command "imges"`, "did you mean images?"},
		{"xyzzy", `unknown command "xyzzy"`, "lists the commands"},
		{"ls", `unknown command "ls"`, "`containr ps` lists containers"},
		{"image inspct x", `unknown command "image inspct"`, "did you mean inspect?"},
		{"run", "run: no image is named", "usage: containr run"},
		{"run --memry 5m base", "run: unknown flag --memry", "did you mean --memory?"},
		{"run -Z base", "run: unknown flag -Z", "lists the flags"},
		{"run --xyzzyplugh base", "run: unknown flag --xyzzyplugh", "lists the flags"},
		{"run --memory", "run: --memory needs a value", ""},
		{"run -m 5x base", `run: --memory: size "5x": not a number with a unit b, k, m or g`, ""},
		{"run -v ~data:/d base", "source \"~data\" is not a path that begins with / or ., nor a name for a volume", ""},
		{"run --rm=perhaps base", "run: --rm:", ""},
		{"run --cap-add SYS_ADMN base", "did you mean CAP_SYS_ADMIN?", ""},
		{"run --env-file /nonexistent/vars base", "run: --env-file: open /nonexistent/vars: no such file or directory", ""},
		{"run --detach-keys ctrl-1 base", "run: --detach-keys:", ""},
		{"run -it base", "run: -t with -i needs a terminal, and standard input is none", "leave out -t, or -i"},
		{"explain", "explain: what to explain begins with run or pull", "containr explain run"},
		{"explain ps", "explain: what to explain begins with run or pull", ""},
		{"explain run", "run: no image is named", ""},
		{"explain run --memry 5m base", "run: unknown flag --memry", "did you mean --memory?"},
		{"explain --zoom wide run base", "explain: --zoom wide: use", ""},
		{"explain --as poem run base", "explain: --as poem: use", ""},
		{"explain --as elf --diff 'run base' 'run base'", "explain: --diff does not go with --as elf", ""},
		{"explain --diff 'run \"base' 'run base'", "explain: --diff", ""},
		{"pull", "pull: an argument is missing", "usage: containr pull"},
		{"tag one", "tag: an argument is missing", "usage: containr tag"},
		{"tag one two three", "tag: too many arguments", "usage: containr tag"},
		{"info extra", "info: too many arguments: extra", ""},
		{"--log-level loud version", "--log-level loud: use debug, info, warn or error", ""},
		{"--log-format xml version", "--log-format xml: use text or json", ""},
		{"import --change 'RUN x' /x y", "import: --change: \"RUN\": use CMD", ""},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			words, err := splitWords(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			got := invoke(t, append([]string{"--root", t.TempDir()}, words...)...)
			message, hint, _ := strings.Cut(got.err, "\n")
			if got.status != 125 || got.out != "" || !strings.HasPrefix(message, "containr: ") || !strings.Contains(message, tt.want) {
				t.Errorf("status %d, output %q, message %q; want 125 and %q", got.status, got.out, message, tt.want)
			}
			if tt.hint != "" && (!strings.HasPrefix(hint, "hint: ") || !strings.Contains(hint, tt.hint)) {
				t.Errorf("hint %q, want %q", hint, tt.hint)
			}
		})
	}
}

func TestErrorsAsJSON(t *testing.T) {
	got := invoke(t, "--log-format", "json", "--root", t.TempDir(), "image", "inspect", "nothing")
	var line struct{ Level, Msg, Hint string }
	if err := json.Unmarshal([]byte(got.err), &line); err != nil || line.Level != "ERROR" || line.Hint == "" || got.status != 1 {
		t.Errorf("status %d, %q: %+v, error %v", got.status, got.err, line, err)
	}
}

func TestVersion(t *testing.T) {
	if got := invoke(t, "version"); got.status != 0 || !strings.Contains(got.out, "\n Version:     "+Version+"\n") || got.err != "" {
		t.Errorf("%+v", got)
	}
	if got := invoke(t, "--version"); got.status != 0 || got.out != "containr "+Version+"\n" || got.err != "" {
		t.Errorf("%+v", got)
	}
}

// TestModules: a test binary does not know its modules, so they are made up.
func TestModules(t *testing.T) {
	got := modulesOf(&debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "example/main"}, Deps: []*debug.Module{
		{Path: "example/a", Version: "v1.0.0"}, {Path: "example/b", Version: "v2.0.0", Replace: &debug.Module{Path: "example/c", Version: "v3.0.0"}},
	}})
	want := []component{{"example/main", Version}, {"go", "1.26.8"}, {"example/a", "v1.0.0"}, {"example/c", "v3.0.0"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, line := range []string{"", "--help", "run --help", "image", "image inspect --help", "explain --help"} {
		got := invoke(t, strings.Fields(line)...)
		if got.status != 0 || !strings.Contains(got.out, "Usage: containr") || got.err != "" {
			t.Errorf("%q: %+v", line, got)
		}
	}
	if got := invoke(t, "run", "--help"); !strings.Contains(got.out, "-h, --hostname NAME") || !strings.Contains(got.out, "\nLimits:\n") {
		t.Errorf("the help of run:\n%s", got.out)
	}
}

// TestInsteadOf: what containr has is not listed as what it lacks.
func TestInsteadOf(t *testing.T) {
	run := newRunFlags(pflag.NewFlagSet("run", pflag.ContinueOnError)).set
	for name := range insteadOf {
		flag, long := strings.CutPrefix(name, "--")
		switch {
		case long && run.Lookup(flag) != nil, !long && name[0] == '-' && run.ShorthandLookup(name[1:]) != nil:
			t.Errorf("run has %s", name)
		case slices.Contains(commandNames(), name):
			t.Errorf("there is a command %s", name)
		}
	}
}

// TestCommandsIn: only the commands that are named are made, and all if none is, or help is asked for.
// What the page on compatibility says of commands that containr has not is said on the command line, too, in some words.
func TestWordsOfDockersAreAnswered(t *testing.T) {
	list, err := os.ReadFile("gendocs/docker.txt")
	if err != nil {
		t.Fatal(err)
	}
	root, said := new(Program).NewRoot(), 0
	for line := range strings.Lines(string(list)) {
		name, isNote := strings.CutPrefix(line, "note ")
		name, _, _ = strings.Cut(name, ":")
		found, rest, _ := root.Find(strings.Fields(name))
		if !isNote || strings.Contains(name, " -") || len(rest) == 0 || name == "docker" {
			continue // it is about a flag, or containr has the command
		}
		var e *usageError
		if err := unknownCommand(found, rest[0], nil); !errors.As(err, &e) || strings.HasSuffix(e.hint, "lists the commands") {
			t.Errorf("%s: the hint is %q", name, e.hint)
		}
		said++
	}
	if said < 8 {
		t.Errorf("%d commands were looked at", said)
	}
}

func TestCommandsIn(t *testing.T) {
	all := strings.Join(commandNames(), " ")
	for args, want := range map[string]string{
		"--root run images -q": "run images",
		"explain run base":     "run explain",
		"nonsense":             all,
		"":                     all,
		"help run":             all,
	} {
		var p Program
		if got := strings.Join(namesOf(p.commandsIn(strings.Fields(args))), " "); got != want {
			t.Errorf("%q makes %s, not %s", args, got, want)
		}
	}
}
