package engine

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containr/containr/pkg/cgroup"
	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/events"
)

// storyOf makes the story of a container that ended ten seconds after its start, with events of these
// actions; a number is a signal.
func storyOf(st container.State, c container.Config, actions ...string) *Story {
	start := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	v := &evidence{now: start.Add(time.Hour), record: container.Record{ID: "0123456789abcdef", Name: "web", Config: c, Created: start}, state: st}
	if st.Status != container.Created {
		v.state.Started = start
	}
	if st.Status == container.Exited {
		v.state.Finished = start.Add(10 * time.Second)
	}
	for i, a := range actions {
		e := events.Event{Time: start.Add(time.Duration(i) * time.Second), Type: events.Container, Action: a}
		if _, err := strconv.Atoi(a); err == nil {
			e.Action, e.Attributes = events.Kill, map[string]string{"signal": a}
		}
		v.events = append(v.events, e)
	}
	return v.story()
}

func TestStories(t *testing.T) {
	base := container.Config{Image: "base"}
	limited := container.Config{Image: "base", Resources: container.Resources{Memory: 64 << 20}}
	exited := func(code int) container.State { return container.State{Status: container.Exited, ExitCode: code} }
	oom := exited(137)
	oom.OOMKilled = true
	child := exited(1)
	child.Used = &container.Used{OOMKills: 2, Periods: 100, Throttled: 50}
	policy := container.Config{Image: "base", Restart: container.Restart{Policy: container.RestartOnFailure, Max: 2}}
	gaveUp := exited(3)
	gaveUp.Restarts = 2
	stopped, again := gaveUp, gaveUp
	stopped.Stopped, again.Status, again.Restarts = true, container.Restarting, 1
	for name, test := range map[string]struct {
		story *Story
		want  []string
		not   []string
	}{
		"memory":            {storyOf(oom, limited, "start", "oom", "die"), []string{"reached its memory limit", "-m 128m"}, []string{"containr sent it"}},
		"not in time":       {storyOf(exited(137), base, "start", "15", "9", "stop", "die"), []string{"had not ended in time after SIGTERM"}, nil},
		"killed by a user":  {storyOf(exited(137), base, "start", "9", "die"), []string{"a user asked"}, []string{"in time"}},
		"of an earlier run": {storyOf(exited(137), base, "start", "9", "die", "start", "die"), []string{"containr did not send it"}, []string{"asked for that"}},
		"by itself":         {storyOf(exited(3), base, "start", "die"), []string{"3 means what the program says"}, nil},
		"crash":             {storyOf(exited(139), base, "start", "die"), []string{"SIGSEGV", "memory that is not its own"}, nil},
		"no signal":         {storyOf(exited(255), base, "start", "die"), []string{"255 means"}, []string{"signal"}},
		"a child":           {storyOf(child, limited, "start", "die"), []string{"killed 2 of the container's processes", "in 50% of the periods"}, nil},
		"given up":          {storyOf(gaveUp, policy, "start", "die"), []string{"(on-failure:2) has started it again 2 times.", "the policy has given up"}, []string{"starts it again."}},
		"stopped":           {storyOf(stopped, policy, "start", "stop", "die"), []string{"started it again 2 times."}, []string{"given up"}},
		"waits":             {storyOf(again, policy, "start", "die"), []string{"has started it again once.", "(on-failure:2) starts it again."}, []string{"given up"}},
		"never":             {storyOf(container.State{Status: container.Created}, base, "create"), []string{"Nobody has started it."}, nil},
	} {
		text := test.story.Headline + strings.Join(slices.Concat(test.story.Causes, test.story.Advice), "\n")
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%s", name, want, text)
			}
		}
		for _, not := range test.not {
			if strings.Contains(text, not) {
				t.Errorf("%s: %q is in\n%s", name, not, text)
			}
		}
	}
}

func TestAStoryOfNow(t *testing.T) {
	v := &evidence{now: time.Unix(2000, 0), record: container.Record{Name: "web"},
		state: container.State{Status: container.Running, Started: time.Unix(1000, 0)},
		sample: &Sample{Running: true, MachineMemory: 1 << 30, Usage: cgroup.Usage{
			Memory: &cgroup.MemoryUsage{Current: 95 << 20, Limit: 100 << 20, OOMKills: 1},
			Pids:   &cgroup.PidsUsage{Current: 95, Limit: 100}}}}
	text := strings.Join(v.story().Causes, "\n")
	for _, want := range []string{"memory is nearly used up", "has killed 1 of its processes", "95 processes and threads, of which 100"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	v.state.Health = &container.HealthState{Status: container.Unhealthy, Failing: 3, Log: []container.HealthResult{{End: time.Unix(1990, 0), ExitCode: 1, Output: "refused\nmore"}}}
	text = strings.Join(v.story().Causes, "\n")
	if !strings.Contains(text, "failed 3 times in a row, last 10 seconds ago with exit status 1.\nThe check said: refused\n") {
		t.Error(text)
	}
	v.state.Health = nil
	v.sample.Memory, v.sample.Pids = &cgroup.MemoryUsage{Current: 1, Limit: cgroup.Unlimited}, &cgroup.PidsUsage{Current: 1, Limit: cgroup.Unlimited}
	if causes := v.story().Causes; len(causes) != 1 || causes[0] != "No limit is near, and nothing was killed." {
		t.Error(causes)
	}
}

func TestRates(t *testing.T) {
	at := func(seconds int, total time.Duration, periods, throttled uint64) Sample {
		return Sample{Running: true, Time: time.Unix(int64(seconds), 0),
			Usage: cgroup.Usage{CPU: &cgroup.CPUUsage{Total: total, Periods: periods, ThrottledPeriods: throttled}}}
	}
	for _, test := range []struct {
		before, now Sample
		want        Rates
	}{
		{at(0, 0, 0, 0), at(2, 3*time.Second, 20, 5), Rates{150, 25}},
		{at(0, time.Second, 10, 10), at(1, time.Second, 10, 10), Rates{}},
		{at(0, 5*time.Second, 10, 0), at(1, time.Second, 1, 0), Rates{}}, // another run
		{Sample{}, at(1, time.Second, 1, 0), Rates{}},
		{at(0, 0, 0, 0), Sample{Time: time.Unix(1, 0)}, Rates{}},
	} {
		if got := test.now.Since(test.before); got != test.want {
			t.Errorf("%v, want %v", got, test.want)
		}
	}
}

func TestNetDev(t *testing.T) {
	const text = "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0\n" +
		"  eth0: 5         1    2    3    0     0          0         0       50      10   20   30    0     0       0          0\n" +
		"  eth1:7000000000 1    0    0    0     0          0         0        1       1    0    0    0     0       0          0\n"
	got, err := parseNetDev(text)
	want := NetworkUsage{Received: 7000000005, ReceivedPackets: 2, ReceiveErrors: 2, ReceiveDropped: 3, Sent: 51, SentPackets: 11, SendErrors: 20, SendDropped: 30}
	if err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseNetDev("eth0: 1 2 3\n"); err == nil {
		t.Error("a short line is no error")
	}
}

// Of a container that is no more no advice needs it.
func TestStoryOfWhatWasRemoved(t *testing.T) {
	r := container.Record{Name: "web"}
	s := &Story{Advice: []string{"`containr diff web` lists what it has changed", "give it more memory: -m"}}
	s.forgetAdvice(r)
	if len(s.Advice) != 1 || s.Advice[0] != "give it more memory: -m" {
		t.Errorf("advice %q", s.Advice)
	}
	s = &Story{Causes: []string{neverStarted}, Advice: []string{"`containr start web` starts it"}}
	s.forgetAdvice(r)
	if strings.Contains(strings.Join(append(s.Causes, s.Advice...), " "), "start web") || s.Causes[0] == neverStarted {
		t.Errorf("%q %q", s.Causes, s.Advice)
	}
}
