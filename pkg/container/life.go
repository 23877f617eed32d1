package container

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/internal/spelling"
	"github.com/containr/containr/pkg/logs"
)

// DefaultStopTimeout is how many seconds a program has to end when it is asked to.
const DefaultStopTimeout = 10

// Restart is a restart policy.
type Restart struct {
	// Policy is one of the policies; empty is RestartNo.
	Policy string `json:"policy,omitempty"`
	// Max is how often RestartOnFailure and RestartOnUnhealthy try; 0 for no limit.
	Max int `json:"max,omitempty"`
}

// Restart policies.
const (
	RestartNo            = "no"             // never
	RestartAlways        = "always"         // whenever it ends, unless a user stopped it
	RestartOnFailure     = "on-failure"     // if its exit status is not 0
	RestartUnlessStopped = "unless-stopped" // like always; they differ when the machine starts
	RestartOnUnhealthy   = "on-unhealthy"   // if it is unhealthy, and then it is ended; whatever its exit status is
)

// Wanted reports whether there is a policy that restarts.
func (r Restart) Wanted() bool { return r.Policy != "" && r.Policy != RestartNo }

// AtBoot reports whether a container that ran when the machine went down is started when it comes up.
func (r Restart) AtBoot() bool { return r.Policy == RestartAlways || r.Policy == RestartUnlessStopped }

// Limited reports whether the policy has a number of times.
func (r Restart) Limited() bool {
	return (r.Policy == RestartOnFailure || r.Policy == RestartOnUnhealthy) && r.Max > 0
}

// String is the policy as the user writes it.
func (r Restart) String() string {
	switch {
	case r.Policy == "":
		return RestartNo
	case r.Max > 0:
		return r.Policy + ":" + strconv.Itoa(r.Max)
	}
	return r.Policy
}

// CheckRestart refuses a policy that waits for what nobody finds out.
func (r Record) CheckRestart() error {
	if r.Config.Restart.Policy == RestartOnUnhealthy && r.Check == nil {
		return errors.New("--restart on-unhealthy: the container has no health check, neither by a flag nor by its image")
	}
	return nil
}

// ParseRestart reads a policy: no, always, unless-stopped, on-failure[:MAX], on-unhealthy[:MAX].
func ParseRestart(s string) (Restart, error) {
	policy, text, hasMax := strings.Cut(s, ":")
	policies := []string{RestartNo, RestartAlways, RestartOnFailure, RestartUnlessStopped, RestartOnUnhealthy}
	switch policy {
	case RestartOnFailure, RestartOnUnhealthy:
	case "", RestartNo, RestartAlways, RestartUnlessStopped:
		if hasMax {
			return Restart{}, fmt.Errorf("%q: only on-failure and on-unhealthy take a number", s)
		}
	default:
		if near := spelling.Nearest(policy, policies); near != "" {
			return Restart{}, fmt.Errorf("%q: did you mean %s?", s, near)
		}
		return Restart{}, fmt.Errorf("%q: use %s", s, strings.Join(policies, ", "))
	}
	r := Restart{Policy: policy}
	if hasMax {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return Restart{}, fmt.Errorf("%q: %q is not a number of times", s, text)
		}
		r.Max = n
	}
	return r, nil
}

// Back-off between restarts.
const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = time.Minute
	// steady is how long a program has to run for its restarts to begin anew.
	steady = 10 * time.Second
)

// Next decides what becomes of a container whose program has ended as the state says: it
// is started again after a while, or not. quick is how many quick ends there have been in
// a row, this one included.
func (r Restart) Next(st State) (quick int, after time.Duration, again bool) {
	quick = st.Quick
	if st.Finished.Sub(st.Started) >= steady {
		quick = 0
	}
	switch {
	case st.Again:
		return quick, 0, true
	case st.Stopped || !r.Wanted():
		return 0, 0, false
	case r.Limited() && st.Restarts >= r.Max,
		r.Policy == RestartOnFailure && st.ExitCode == 0,
		r.Policy == RestartOnUnhealthy && (st.Health == nil || st.Health.Status != Unhealthy):
		return 0, 0, false
	}
	after = firstRestart
	for range quick {
		if after = min(2*after, lastRestart); after == lastRestart {
			break
		}
	}
	return quick + 1, after, true
}

// ParseLogOption reads an option of the log driver: KEY=VALUE.
func ParseLogOption(s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", fmt.Errorf("%q: it is not KEY=VALUE", s)
	}
	return key, value, nil
}

// Logs says how the container's log is kept.
func (c Config) Logs() (logs.Options, error) { return logs.Parse(c.LogDriver, c.LogOpts, ParseSize) }

// validateLife checks what happens when the program runs and ends.
func validateLife(c Config) error {
	if c.AutoRemove && c.Restart.Wanted() {
		return errors.New("--rm cannot be used with --restart: a container that is removed cannot be started again")
	}
	if c.StopTimeout != nil && *c.StopTimeout < -1 {
		return fmt.Errorf("--stop-timeout %d: use a number of seconds, or -1 to wait for ever", *c.StopTimeout)
	}
	if err := validateHealth(c.Health); err != nil {
		return err
	}
	_, err := c.Logs()
	return err
}
