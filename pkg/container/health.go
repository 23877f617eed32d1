package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Health says how it is found out whether a container that runs does its work.
type Health struct {
	// Command is a line for the container's shell; empty is the image's check.
	Command string `json:"command,omitempty"`
	// Probe is a URL that is asked instead, http:, https:, tcp: or grpc:, see ParseHealthHTTP and its like.
	Probe string `json:"probe,omitempty"`
	// Interval is the time between two checks, Timeout how long one may take.
	Interval time.Duration `json:"interval,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`
	// StartPeriod is how long failures do not count after the start, and StartInterval the
	// interval in that time.
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval,omitempty"`
	// Retries is how many failures in a row make it unhealthy.
	Retries int `json:"retries,omitempty"`
	// Off turns the image's check off.
	Off bool `json:"off,omitempty"`
	// OnFailure is what happens to a container that has become unhealthy; empty is
	// HealthNone.
	OnFailure string `json:"onFailure,omitempty"`
}

// Asked reports whether the user asks for a check.
func (h Health) Asked() bool { return h.Command != "" || h.Probe != "" }

// Acts reports whether something happens to a container that has become unhealthy.
func (h Health) Acts() bool { return h.OnFailure != "" && h.OnFailure != HealthNone }

// What happens to a container that has become unhealthy.
const (
	HealthNone    = "none"
	HealthKill    = "kill"    // and what the restart policy wants then
	HealthRestart = "restart" // whatever the restart policy wants
	HealthStop    = "stop"
)

var healthActions = []string{HealthNone, HealthKill, HealthRestart, HealthStop}

// Defaults of checks, docker's.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
)

// Check is a health check with everything decided.
type Check struct {
	// Args are the program and its arguments.
	Args []string `json:"args,omitempty"`
	// Probe is a URL that is asked from within the container's network, if there are no Args.
	Probe string `json:"probe,omitempty"`
	// The rest is as in Health, with the defaults filled in.
	Interval      time.Duration `json:"interval"`
	Timeout       time.Duration `json:"timeout"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"`
	StartInterval time.Duration `json:"startInterval"`
	Retries       int           `json:"retries"`
	OnFailure     string        `json:"onFailure,omitempty"`
}

// imageHealth is HEALTHCHECK in the configuration of an image, which docker has added to
// the OCI specification.
type imageHealth struct {
	Config struct {
		Healthcheck *struct {
			Test                                          []string
			Interval, Timeout, StartPeriod, StartInterval time.Duration
			Retries                                       int
		}
	} `json:"config"`
}

// HealthCheck decides on the check of a container: what the user asked for, and where he
// left something open what the image's configuration, as JSON, says. nil is none.
func HealthCheck(h Health, image []byte) (*Check, error) {
	if h.Off {
		return nil, nil
	}
	var args []string
	var from imageHealth
	if bytes.Contains(image, []byte(`"Healthcheck"`)) { // few images have one, and all runs come by here
		if err := json.Unmarshal(image, &from); err != nil {
			return nil, fmt.Errorf("image's health check: %w", err)
		}
	}
	if i := from.Config.Healthcheck; i != nil {
		args = testArgs(i.Test)
		orDuration(&h.Interval, i.Interval)
		orDuration(&h.Timeout, i.Timeout)
		orDuration(&h.StartPeriod, i.StartPeriod)
		orDuration(&h.StartInterval, i.StartInterval)
		if h.Retries == 0 {
			h.Retries = i.Retries
		}
	}
	if h.Command != "" {
		args = shellArgs(h.Command)
	}
	if h.Probe != "" {
		args = nil
	}
	if len(args) == 0 && h.Probe == "" {
		if h.Acts() {
			return nil, fmt.Errorf("--health-on-failure %s: the container has no health check, neither by a flag nor by its image", h.OnFailure)
		}
		return nil, nil
	}
	orDuration(&h.Interval, healthInterval)
	orDuration(&h.Timeout, healthTimeout)
	orDuration(&h.StartInterval, healthStartInterval)
	if h.Retries == 0 {
		h.Retries = healthRetries
	}
	return &Check{Args: args, Probe: h.Probe, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval,
		Retries: h.Retries, OnFailure: h.OnFailure}, nil
}

func orDuration(field *time.Duration, value time.Duration) {
	if *field == 0 {
		*field = value
	}
}

// testArgs reads docker's list: NONE, CMD and a command line, or CMD-SHELL and a line.
func testArgs(test []string) []string {
	switch {
	case len(test) > 1 && test[0] == "CMD":
		return test[1:]
	case len(test) > 1 && test[0] == "CMD-SHELL":
		return shellArgs(test[1])
	}
	return nil
}

func shellArgs(line string) []string { return []string{"/bin/sh", "-c", line} }

// HealthState is what the checks of a container have found.
type HealthState struct {
	// Status is one of the statuses.
	Status string `json:"status"`
	// Failing counts the failures in a row.
	Failing int `json:"failing,omitempty"`
	// Log has the last checks, the newest at the end.
	Log []HealthResult `json:"log,omitempty"`
}

// HealthResult is how one check went.
type HealthResult struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// ExitCode is the program's; 0 is healthy, -1 that it could not be run or took too long.
	ExitCode int `json:"exitCode"`
	// Output is the beginning of what it wrote.
	Output string `json:"output,omitempty"`
}

// Statuses of health.
const (
	Starting  = "starting"
	Healthy   = "healthy"
	Unhealthy = "unhealthy"
)

// MaxHealthOutput is how much of a check's output is kept, in bytes.
const MaxHealthOutput = 4096

// maxHealthLog is how many checks are remembered.
const maxHealthLog = 5

// Next takes in a check. started is when the container was.
func (s HealthState) Next(c Check, started time.Time, r HealthResult) HealthState {
	s.Log = append(slices.Clone(s.Log), r)
	s.Log = s.Log[max(len(s.Log)-maxHealthLog, 0):]
	switch {
	case r.ExitCode == 0:
		s.Status, s.Failing = Healthy, 0
	case s.Status == Starting && r.Start.Before(started.Add(c.StartPeriod)):
		// it does not count yet
	default:
		if s.Failing++; s.Failing >= c.Retries {
			s.Status = Unhealthy
		}
	}
	return s
}

// Due is when the next check is to begin.
func (s HealthState) Due(c Check, started time.Time) time.Time {
	last, interval := started, c.Interval
	if n := len(s.Log); n > 0 {
		last = s.Log[n-1].End
	}
	if s.Status == Starting && last.Before(started.Add(c.StartPeriod)) {
		interval = min(c.Interval, c.StartInterval)
	}
	return last.Add(interval)
}

// ParseHealthDuration reads a time for health checks, such as 30s: docker wants at least
// a millisecond, and so do we.
func ParseHealthDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 30s or 1m30s", s)
	}
	if d < time.Millisecond && d != 0 {
		return 0, fmt.Errorf("%q: use at least 1ms", s)
	}
	return d, nil
}

func validateHealth(h Health) error {
	if h.OnFailure != "" {
		if err := oneOf("--health-on-failure", h.OnFailure, healthActions); err != nil {
			return err
		}
	}
	set := h
	set.Off = false
	switch {
	case h.Off && set != (Health{}):
		return errors.New("--no-healthcheck cannot be used with other flags of health checks")
	case h.Command != "" && h.Probe != "":
		return errors.New("--health-cmd cannot be used with --health-http, --health-tcp or --health-grpc: a container has one health check")
	case h.Retries < 0:
		return fmt.Errorf("--health-retries %d: use a number from 1 on", h.Retries)
	case strings.ContainsRune(h.Command, 0):
		return errors.New("--health-cmd: contains a zero byte")
	}
	return nil
}
