package container

import (
	"slices"
	"testing"
	"time"
)

func TestRestartPolicies(t *testing.T) {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ended := func(after time.Duration, code int) State {
		return State{Status: Exited, Started: begun, Finished: begun.Add(after), ExitCode: code}
	}
	with := func(st State, change func(*State)) State { change(&st); return st }
	for _, c := range []struct {
		policy string
		state  State
		after  time.Duration
		again  bool
	}{
		{"no", ended(0, 1), 0, false},
		{"", ended(0, 1), 0, false},
		{"always", ended(0, 0), 100 * time.Millisecond, true},
		{"always", with(ended(0, 0), func(s *State) { s.Quick = 1 }), 200 * time.Millisecond, true},
		{"always", with(ended(0, 0), func(s *State) { s.Quick = 9 }), 51200 * time.Millisecond, true},
		{"always", with(ended(0, 0), func(s *State) { s.Quick = 10 }), time.Minute, true},
		{"always", with(ended(0, 0), func(s *State) { s.Quick = 1000 }), time.Minute, true},
		{"always", with(ended(10*time.Second, 0), func(s *State) { s.Quick = 1000 }), 100 * time.Millisecond, true},
		{"always", with(ended(0, 0), func(s *State) { s.Stopped = true }), 0, false},
		{"unless-stopped", with(ended(0, 0), func(s *State) { s.Stopped = true }), 0, false},
		{"unless-stopped", ended(0, 0), 100 * time.Millisecond, true},
		{"on-failure", ended(0, 0), 0, false},
		{"on-failure", ended(0, 3), 100 * time.Millisecond, true},
		{"on-failure:2", with(ended(0, 3), func(s *State) { s.Restarts = 1 }), 100 * time.Millisecond, true},
		{"on-failure:2", with(ended(0, 3), func(s *State) { s.Restarts = 2 }), 0, false},
		{"on-unhealthy", ended(0, 3), 0, false},
		{"on-unhealthy", with(ended(0, 3), func(s *State) { s.Health = &HealthState{Status: Healthy, Failing: 2} }), 0, false},
		{"on-unhealthy", with(ended(0, 0), func(s *State) { s.Health = &HealthState{Status: Unhealthy} }), 100 * time.Millisecond, true},
		{"on-unhealthy", with(ended(0, 0), func(s *State) { s.Health, s.Stopped = &HealthState{Status: Unhealthy}, true }), 0, false},
		{"on-unhealthy:2", with(ended(0, 0), func(s *State) { s.Health, s.Restarts = &HealthState{Status: Unhealthy}, 2 }), 0, false},
	} {
		r, err := ParseRestart(c.policy)
		if err != nil {
			t.Fatal(err)
		}
		if _, after, again := r.Next(c.state); after != c.after || again != c.again {
			t.Errorf("%q after %+v: %v, %v; want %v, %v", c.policy, c.state, after, again, c.after, c.again)
		}
	}
	for _, bad := range []string{"allways", "always:3", "on-failure:x", "on-failure:-1", "never", "on-unhealthy:", "unless-stopped:1"} {
		if r, err := ParseRestart(bad); err == nil {
			t.Errorf("%q is %+v", bad, r)
		}
	}
}

// TestHealthCheck: what the user leaves open, the image says, and then docker's defaults.
func TestHealthCheck(t *testing.T) {
	image := []byte(`{"architecture":"amd64","config":{"Cmd":["x"],"Healthcheck":{"Test":["CMD","check","me"],"Interval":5000000000,"Retries":7}}}`)
	c, err := HealthCheck(Health{}, image)
	if err != nil || c == nil || !slices.Equal(c.Args, []string{"check", "me"}) || c.Interval != 5*time.Second || c.Retries != 7 || c.Timeout != 30*time.Second {
		t.Errorf("of the image: %+v, %v", c, err)
	}
	c, err = HealthCheck(Health{Command: "true", Retries: 1}, image)
	if err != nil || !slices.Equal(c.Args, []string{"/bin/sh", "-c", "true"}) || c.Interval != 5*time.Second || c.Retries != 1 {
		t.Errorf("of the user: %+v, %v", c, err)
	}
	for _, h := range []Health{{}, {Off: true}} {
		config := image
		if !h.Off {
			config = []byte(`{"config":{"Healthcheck":{"Test":["NONE"]}}}`)
		}
		if c, err := HealthCheck(h, config); err != nil || c != nil {
			t.Errorf("%+v: %+v, %v", h, c, err)
		}
	}
	if _, err := HealthCheck(Health{}, []byte(`{"config":{"Healthcheck":{"Test":5}}}`)); err == nil {
		t.Error("a damaged check was taken")
	}
}

func TestHealthStates(t *testing.T) {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := Check{Interval: 10 * time.Second, StartPeriod: time.Minute, StartInterval: time.Second, Retries: 2}
	at := func(after time.Duration, code int) HealthResult {
		return HealthResult{Start: begun.Add(after), End: begun.Add(after), ExitCode: code}
	}
	s := HealthState{Status: Starting}
	if due := s.Due(c, begun); due != begun.Add(time.Second) {
		t.Errorf("the first check is due at %v", due)
	}
	for _, step := range []struct {
		result  HealthResult
		status  string
		failing int
		due     time.Duration
	}{
		{at(1*time.Second, 1), Starting, 0, 2 * time.Second},   // does not count yet
		{at(61*time.Second, 1), Starting, 1, 71 * time.Second}, // counts
		{at(71*time.Second, -1), Unhealthy, 2, 81 * time.Second},
		{at(81*time.Second, 0), Healthy, 0, 91 * time.Second},
		{at(91*time.Second, 1), Healthy, 1, 101 * time.Second},
		{at(101*time.Second, 1), Unhealthy, 2, 111 * time.Second},
	} {
		s = s.Next(c, begun, step.result)
		if s.Status != step.status || s.Failing != step.failing || s.Due(c, begun) != begun.Add(step.due) {
			t.Errorf("after %+v: %s, %d failures, due %v", step.result, s.Status, s.Failing, s.Due(c, begun))
		}
	}
	if len(s.Log) != maxHealthLog {
		t.Errorf("%d checks are remembered", len(s.Log))
	}
}
