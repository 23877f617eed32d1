package logs

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// GelfOptions say how lines get to a server that takes GELF, such as Graylog or Logstash.
type GelfOptions struct {
	// Network is udp or tcp; Address is HOST:PORT.
	Network, Address string
	// Compression is gzip, zlib or none, and Level 1 to 9, -1 for the middle or 0 for none; both only over udp.
	Compression string
	Level       int
}

var gelfKeys = []string{"gelf-address", "gelf-compression-type", "gelf-compression-level", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"}

var gelfForm = addressForm{map[string]string{"udp": "12201", "tcp": "12201"}, nil, "use udp://HOST:PORT or tcp://HOST:PORT"}

// FluentdOptions say how lines get to a server that speaks fluentd's forward protocol.
type FluentdOptions struct {
	// Network is tcp, tls or unix; Address is HOST:PORT or a path.
	Network, Address string
	// SubSecond has times sent with nanoseconds.
	SubSecond bool
	// Acknowledge has a line count as sent when the server says that it has it.
	Acknowledge bool
}

var fluentdKeys = []string{"fluentd-address", "fluentd-async", "fluentd-buffer-limit", "fluentd-max-retries", "fluentd-request-ack",
	"fluentd-retry-wait", "fluentd-sub-second-precision"}

var fluentdForm = addressForm{map[string]string{"tcp": "24224", "tls": "24224"}, []string{"unix"},
	"use HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH"}

// setTarget sets an option that belongs to one driver.
func (o *Options) setTarget(key, value string) (err error) {
	switch key {
	case "gelf-tcp-max-reconnect", "fluentd-max-retries":
		// 4294967295 is docker's word for all of them
		if n, err := strconv.ParseUint(value, 10, 32); err != nil || n == 0 {
			return errors.New("use a number from 1 on, or leave it out: then no line is lost")
		} else if n < 1<<31 {
			o.Retries = int(n)
		}
	case "gelf-tcp-reconnect-delay":
		seconds, err := strconv.ParseUint(value, 10, 16)
		if err != nil || seconds == 0 {
			return errors.New("use a number of seconds from 1 on")
		}
		o.RetryWait = time.Duration(seconds) * time.Second
	case "fluentd-retry-wait":
		if o.RetryWait, err = time.ParseDuration(value); err != nil || o.RetryWait <= 0 {
			return errors.New("use a duration, as in 500ms or 1s")
		}
	default:
		switch o.Driver {
		case Gelf:
			return o.Gelf.set(key, value)
		case Fluentd:
			return o.Fluentd.set(key, value)
		}
		return o.Syslog.set(key, value)
	}
	return nil
}

func (o *GelfOptions) set(key, value string) (err error) {
	switch key {
	case "gelf-address":
		o.Network, o.Address, err = gelfForm.parse(value)
	case "gelf-compression-type":
		if o.Compression = value; value != "gzip" && value != "zlib" && value != "none" {
			err = errors.New("use gzip, zlib or none")
		}
	case "gelf-compression-level":
		if o.Level, err = strconv.Atoi(value); err != nil || o.Level < -1 || o.Level > 9 {
			err = errors.New("use a number from -1 to 9")
		}
	}
	return err
}

// check refuses what does not go together.
func (o GelfOptions) check(options map[string]string) error {
	if o.Address == "" {
		return fmt.Errorf("--log-driver gelf: it needs --log-opt gelf-address: %s", gelfForm.use)
	}
	for key := range options {
		if o.Network == "tcp" && strings.HasPrefix(key, "gelf-compression-") {
			return errors.New("--log-opt gelf-compression-...: only what goes to udp:// is compressed")
		}
		if o.Network == "udp" && strings.HasPrefix(key, "gelf-tcp-") {
			return errors.New("--log-opt gelf-tcp-...: only a server at tcp:// has a connection")
		}
	}
	return nil
}

func (o *FluentdOptions) set(key, value string) (err error) {
	switch key {
	case "fluentd-address":
		if !strings.Contains(value, "://") {
			value = "tcp://" + value
		}
		o.Network, o.Address, err = fluentdForm.parse(value)
	case "fluentd-async":
		if async, err := strconv.ParseBool(value); err != nil || !async {
			return errors.New("use true, or leave it out: no container waits for the server, and the files of its log keep what waits")
		}
	case "fluentd-buffer-limit":
		err = errors.New("use max-size and max-file: the files of the log are the buffer")
	case "fluentd-sub-second-precision":
		o.SubSecond, err = parseBool(value)
	case "fluentd-request-ack":
		o.Acknowledge, err = parseBool(value)
	}
	return err
}

func parseBool(value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, errors.New("use true or false")
	}
	return b, nil
}
