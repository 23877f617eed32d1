package engine

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
)

// Story is what became of a container, in words: how it ended, or why it does not run, or
// how it does; what there is to show for it; and what to try.
type Story struct {
	Name, ID, Image string
	// Headline is one sentence: the state and since when.
	Headline string
	// Causes are sentences: what the state means, who did it, what limits had to do with it.
	Causes []string
	// Facts are numbers of the kernel's.
	Facts []Fact
	// Output are the last lines of the log.
	Output []string
	// Events are what happened since it was started last, or, if it was not, made.
	Events []events.Event
	// Advice is what to try, each a line.
	Advice []string
}

// Fact is one number with its name.
type Fact struct{ Name, Value string }

// evidence is what a story is made of. Making it is pure.
type evidence struct {
	now    time.Time
	record container.Record
	state  container.State
	events []events.Event
	output []string
	// sample is of a container that runs, nil of others.
	sample *Sample
}

// story makes the story of the evidence.
func (v *evidence) story() *Story {
	s := &Story{Name: v.record.Name, ID: v.record.ID, Image: v.record.Config.Image, Output: v.output, Events: v.sinceStart()}
	switch {
	case v.state.Status == container.Running, v.state.Status == container.Paused:
		v.runs(s)
	case v.state.Started.IsZero(), v.state.Error != "" && v.state.Finished.IsZero():
		v.neverRan(s)
	default:
		v.ended(s)
	}
	return s
}

// sinceStart are the events of the last run, with what led to it if it did not come about.
func (v *evidence) sinceStart() []events.Event {
	for i, e := range slices.Backward(v.events) {
		if e.Action == events.Start {
			return v.events[i:]
		}
	}
	return v.events
}

func (s *Story) because(format string, args ...any) {
	s.Causes = append(s.Causes, fmt.Sprintf(format, args...))
}

func (s *Story) try(format string, args ...any) {
	s.Advice = append(s.Advice, fmt.Sprintf(format, args...))
}

func (s *Story) fact(name, format string, args ...any) {
	s.Facts = append(s.Facts, Fact{name, fmt.Sprintf(format, args...)})
}

const neverStarted = "Nobody has started it."

func (v *evidence) neverRan(s *Story) {
	s.Headline = "was made " + v.ago(v.record.Created) + " and could not be started"
	if v.state.Error == "" {
		s.Headline = "was made " + v.ago(v.record.Created) + " and has never run"
		s.because(neverStarted)
		s.try("`containr start %s` starts it", v.record.Name)
		return
	}
	s.because("It could not be started: %s.", strings.ReplaceAll(v.state.Error, "\n", "; "))
	s.try("`containr explain run ...` prints each step of a start, with its reason")
	s.try("`containr doctor` says what this machine lacks")
}

func (v *evidence) ago(t time.Time) string {
	if t.IsZero() {
		return "at a time that is not known"
	}
	return v.since(t) + " ago"
}

// since is how long ago something was, in the middle of a sentence.
func (v *evidence) since(t time.Time) string {
	text := units.HumanDuration(v.now.Sub(t))
	return strings.ToLower(text[:1]) + text[1:]
}

func (v *evidence) ended(s *Story) {
	st := v.state
	s.Headline = fmt.Sprintf("ended %s with exit status %d", v.ago(st.Finished), st.ExitCode)
	if ran := st.Finished.Sub(st.Started); !st.Started.IsZero() && ran >= 0 {
		s.Headline += ", after " + ran.Round(time.Millisecond).String()
	}
	if st.Error != "" {
		s.because("It is noted: %s.", st.Error)
	}
	switch {
	case st.OOMKilled:
		v.outOfMemory(s)
	case st.ExitCode > 128 && unix.SignalName(unix.Signal(st.ExitCode-128)) != "":
		v.signalled(s, unix.Signal(st.ExitCode-128))
	default:
		v.byItself(s)
	}
	v.health(s)
	v.restarted(s)
	v.used(s)
}

// outOfMemory tells of a program that was killed for its memory.
func (v *evidence) outOfMemory(s *Story) {
	s.because("The container reached its memory limit, and the kernel killed the program (SIGKILL: %d is 128 and 9).", v.state.ExitCode)
	limit := v.record.Config.Resources.Memory
	if limit > 0 {
		s.try("give it more, if it needs more: `-m %s`", strings.ToLower(units.CustomSize("%.0f%s", float64(2*limit), 1024, []string{"b", "k", "m", "g", "t"})))
	}
	s.try("have the program know its limit: for instance GOMEMLIMIT, -XX:MaxRAMPercentage, --max-old-space-size")
	s.try("`containr stats` shows how its memory grows, when it runs again")
}

// meanings of signals that end programs, for people who have not met them.
var meanings = map[unix.Signal]string{
	unix.SIGSEGV: "The program used memory that is not its own: a bug in it, or a library for another processor.",
	unix.SIGBUS:  "The program used memory that has nothing behind it, such as the end of a file that became shorter, or a full /dev/shm.",
	unix.SIGABRT: "The program gave itself up (abort), as after a failed assertion. What it wrote last says more.",
	unix.SIGILL:  "The program used an instruction that this processor does not have.",
	unix.SIGFPE:  "The program divided by zero, or the like.",
	unix.SIGPIPE: "The program wrote to somebody who had gone away.",
	unix.SIGSYS:  "The program made a system call that its seccomp filter answers with death.",
	unix.SIGHUP:  "Its terminal went away.",
	unix.SIGINT:  "Somebody pressed Ctrl-C, or sent the same.",
	unix.SIGTERM: "Somebody asked it to end.",
	unix.SIGQUIT: "Somebody pressed Ctrl-\\, or sent the same.",
	unix.SIGXCPU: "It used up the CPU time that a ulimit gave it.",
	unix.SIGXFSZ: "It wrote a file that is larger than a ulimit lets it.",
}

// signalled tells of a program that a signal ended.
func (v *evidence) signalled(s *Story, sig unix.Signal) {
	s.because("%d is 128 and %d: a signal ended it, %s.", v.state.ExitCode, sig, unix.SignalName(sig))
	if text := meanings[sig]; text != "" {
		s.because("%s", text)
	}
	sent := v.sent()
	switch {
	case sig == unix.SIGKILL && len(sent) > 1 && sent[len(sent)-1] == int(sig):
		s.because("containr sent it, because the program had not ended in time after %s.", unix.SignalName(unix.Signal(sent[0])))
		s.try("have the program end when it gets %s; a shell as process 1 passes nothing on: begin with `exec`, or use --init", unix.SignalName(unix.Signal(sent[0])))
		s.try("give it longer: `containr stop -t 60`, or --stop-timeout")
	case slices.Contains(sent, int(sig)):
		s.because("containr sent it: a user asked for that.")
	case sig == unix.SIGKILL:
		s.because("containr did not send it, and the container did not reach its memory limit. So it was a process of the machine, one in the container, or the kernel when the machine's memory ran out.")
		s.try("`dmesg` or `journalctl -k` tells if the machine's memory ran out: look for \"Out of memory\"")
	default:
		s.because("containr did not send it.")
	}
	switch sig {
	case unix.SIGILL:
		s.try("`containr image inspect --format '{{.Architecture}} {{.Variant}}' %s` says what the image is for", v.record.Config.Image)
	case unix.SIGSYS:
		s.try("--security-opt seccomp=unconfined tells whether it is the filter; a profile of its own is better")
	case unix.SIGBUS:
		s.try("a larger /dev/shm: --shm-size 1g")
	}
}

// sent lists the signals that containr sent in the last run.
func (v *evidence) sent() []int {
	var out []int
	for _, e := range v.sinceStart() {
		if n, err := strconv.Atoi(e.Attributes["signal"]); e.Action == events.Kill && err == nil {
			out = append(out, n)
		}
	}
	return out
}

// shells are programs that end at once when they have nothing to read.
var shells = []string{"sh", "bash", "dash", "ash", "zsh", "python", "python3", "node", "irb"}

// byItself tells of a program that ended with an exit status of its own.
func (v *evidence) byItself(s *Story) {
	c := v.record.Config
	command := v.record.Command
	switch code := v.state.ExitCode; {
	case code == 0 && len(command) == 1 && slices.Contains(shells, path.Base(command[0])) && !c.Interactive:
		s.because("The program ended by itself. It is %s, which reads commands, and had none to read.", path.Base(command[0]))
		s.try("give it a terminal: `-it`; or name a command behind the image")
	case code == 0:
		s.because("The program ended by itself, and reported success. A container runs as long as its first program.")
		if v.state.Finished.Sub(v.state.Started) < time.Second {
			s.try("a program that puts itself into the background ends the container: have it stay in the foreground")
		}
	case code == 126:
		s.because("A program that was to be executed is there and could not be: its permissions, or its format.")
	case code == 127:
		s.because("A program that was to be executed was not found, by a shell or by the program itself.")
		s.try("look into the image: `containr run --rm --entrypoint '' %s ls /bin /usr/bin`", c.Image)
	default:
		s.because("The program ended by itself, and reported failure: %d means what the program says it means.", code)
	}
	if used := v.state.Used; used != nil && used.OOMKills > 0 {
		s.because("The kernel killed %d of the container's processes because it reached its memory limit, though not the first one.", used.OOMKills)
		s.try("give it more memory: -m")
	}
	if v.state.ExitCode != 0 && len(v.output) == 0 {
		s.try("`containr diff %s` lists what it has changed, `containr cp` fetches files of it", v.record.Name)
	}
}

// used adds what was counted when the container ended.
func (v *evidence) used(s *Story) {
	u := v.state.Used
	if u == nil {
		return
	}
	if u.MemoryPeak > 0 {
		s.fact("memory, at most", "%s", units.BytesSize(float64(u.MemoryPeak)))
	}
	if u.MemoryLimit > 0 {
		s.fact("memory limit", "%s", units.BytesSize(float64(u.MemoryLimit)))
	}
	if u.OOMKills > 0 {
		s.fact("killed for memory", "%d", u.OOMKills)
	}
	s.fact("CPU time", "%v", u.CPU.Round(time.Millisecond))
	v.throttled(s, u.Periods, u.Throttled)
}

// much is the share, in percent, of a limit from which on a story speaks of it.
const much = 90

// throttled tells of a CPU limit that was reached.
func (v *evidence) throttled(s *Story, periods, throttled uint64) {
	if periods == 0 {
		return
	}
	share := 100 * throttled / periods
	s.fact("stopped by CPU limit", "in %d%% of the periods", share)
	if share >= 25 {
		s.because("Its CPU limit stopped it in %d%% of the periods of time in which it ran: it is slower than it would be.", share)
		s.try("a higher --cpus, or fewer threads")
	}
}

// restarted tells how often the restart policy has started a container again, and whether it goes on. The events of a story
// are those of the last run alone.
func (v *evidence) restarted(s *Story) {
	st, policy := v.state, v.record.Config.Restart
	if n := st.Restarts; n > 0 {
		s.because("Its restart policy (%s) has started it again %s.", policy, times(n))
	}
	switch {
	case st.Status == container.Restarting:
		s.because("Its restart policy (%s) starts it again.", policy)
	case st.Status == container.Exited && !st.Stopped && policy.Limited() && st.Restarts >= policy.Max && (policy.Policy == container.RestartOnUnhealthy || st.ExitCode != 0):
		s.because("That is as often as it may: the policy has given up.")
		s.try("`containr start %s` starts it, and the policy counts from 0 again", v.record.Name)
	}
}

// times is how often something was, in words.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// runs tells of a container that runs.
func (v *evidence) runs(s *Story) {
	s.Headline = "has run for " + v.since(v.state.Started)
	if v.state.Status == container.Paused {
		s.Headline += ", and is paused"
		s.because("A user has paused it: none of its processes gets any CPU.")
		s.try("`containr unpause %s` lets it go on", v.record.Name)
	}
	v.restarted(s)
	if v.sample == nil || !v.sample.Running {
		return
	}
	before := len(s.Causes)
	v.health(s)
	v.memoryNow(s)
	if p := v.sample.Pids; p != nil {
		s.fact("processes", "%d", p.Current)
		if p.Limit > 0 && 100*p.Current >= much*p.Limit && p.Limit < 1<<32 {
			s.because("It has %d processes and threads, of which %d are allowed. The next ones will fail.", p.Current, p.Limit)
			s.try("a higher --pids-limit; `containr top %s` shows what they are", v.record.Name)
		}
	}
	if c := v.sample.CPU; c != nil {
		s.fact("CPU time", "%v", c.Total.Round(time.Millisecond))
		v.throttled(s, c.Periods, c.ThrottledPeriods)
	}
	if len(s.Causes) == before && v.state.Status == container.Running {
		s.because("No limit is near, and nothing was killed.")
	}
}

// health tells what the health checks have found.
func (v *evidence) health(s *Story) {
	h := v.state.Health
	if h == nil {
		return
	}
	s.fact("health", "%s, checked %d times lately", h.Status, len(h.Log))
	if h.Failing == 0 || len(h.Log) == 0 {
		return
	}
	last := h.Log[len(h.Log)-1]
	s.because("Its health check has failed %d times in a row, last %s with exit status %d.", h.Failing, v.ago(last.End), last.ExitCode)
	if line, _, _ := strings.Cut(strings.TrimSpace(last.Output), "\n"); line != "" {
		s.because("The check said: %s", line)
	}
	s.try("`containr inspect %s` has the last checks whole", v.record.Name)
}

// memoryNow tells how near a container that runs is to its memory limit.
func (v *evidence) memoryNow(s *Story) {
	m := v.sample.Memory
	if m == nil {
		return
	}
	limit := v.sample.MemoryLimit()
	s.fact("memory", "%s of %s", units.BytesSize(float64(m.Working())), units.BytesSize(float64(limit)))
	if m.Peak > 0 {
		s.fact("memory, at most", "%s", units.BytesSize(float64(m.Peak)))
	}
	if 100*m.Working() >= much*limit {
		s.because("Its memory is nearly used up. When it needs more, the kernel kills a process of it.")
		s.try("give it more: `containr update -m ... %s`", v.record.Name)
	}
	if m.OOMKills > 0 {
		s.fact("killed for memory", "%d", m.OOMKills)
		s.because("The kernel has killed %d of its processes because it reached its memory limit; the first one runs on.", m.OOMKills)
	}
}
