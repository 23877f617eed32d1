// Package logs keeps what containers write, and reads it again.
//
// # Theory of operation
//
// A log is a directory: the file json.log, which grows, and json.log.1, json.log.2, ...,
// which were json.log before and are older the greater their number. When json.log
// would grow beyond its limit the files move up by one and the last falls off. A line of
// a file is an object in the form of docker's driver json-file.
//
// One Writer at a time fills a log; it may be killed at any moment, and nothing may be
// lost or be there twice. It is given data that lies in a tray, see package streams, and
// writes down in a second file, the position, how far it has come:
//
//	the lines go to the log        killed here: the position is the former one, the log
//	                               is cut back to it, and the tray is logged again
//	the position is written        killed here: the position says that the tray is in
//	                               the log, and it is only emptied
//	the tray is emptied
//	the position says so
//
// What the program has written of a line that is not complete goes to the position, not
// to the log: a line is one record, unless it is longer than MaxLine.
//
// If the disk is full the log has a gap, which a record says the length of, and the
// container runs on. A disk that is slow keeps the writer, and once the pipe between them is
// full (64 kB) the container, waiting.
//
// What a container writes may also be passed on, to syslog, the journal, a GELF or a fluentd server. That is done from
// these files, by a process of its own: see package forward.
//
// A Reader needs no lock: files are only appended to and renamed. It follows a log
// across renames by the files' identity.
package logs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/internal/spelling"
)

// Stream says which output of a container something was written to.
type Stream byte

// The outputs. What a terminal shows is Stdout.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// String is the stream's name in the log.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// MaxLine is the longest line that is one record, in bytes. Of a longer one every
// MaxLine bytes are a record without the line's end.
const MaxLine = 16 << 10

// Drivers.
const (
	JSONFile = "json-file" // docker's format
	Local    = "local"     // the same, and older files are compressed
	None     = "none"      // nothing is kept
	Syslog   = "syslog"    // as json-file, and passed on, see package forward
	Journald = "journald"  // the same
	Gelf     = "gelf"      // the same
	Fluentd  = "fluentd"   // the same
)

// Options say how a log is kept. The zero value is not usable: see Parse.
type Options struct {
	// Driver is one of the drivers.
	Driver string
	// MaxSize is how long a file may become, in bytes, and MaxFiles how many there are.
	MaxSize  int64
	MaxFiles int
	// Compress compresses all files but the one that grows.
	Compress bool
	// Labels and Env are the names of labels and variables of the container that belong to
	// its lines, and Tag is a template for what it is called, "" for its short id.
	Labels, Env []string
	Tag         string
	// Syslog says where the driver Syslog passes lines on to.
	Syslog SyslogOptions
	// Gelf and Fluentd say it for these drivers.
	Gelf    GelfOptions
	Fluentd FluentdOptions
	// RetryWait is the pause before a line is sent again for the first time, 0 for a short one. After Retries such attempts it
	// is lost; 0 is never.
	RetryWait time.Duration
	Retries   int
}

// Forwards reports whether what is logged is passed on to somebody else.
func (o Options) Forwards() bool {
	return o.Driver == Syslog || o.Driver == Journald || o.Driver == Gelf || o.Driver == Fluentd
}

// Chunk is how much output, in bytes, is to be written to the log at once at most: a file
// may become longer than MaxSize by what is written at once.
func (o Options) Chunk() int { return int(max(minChunk, min(maxChunk, o.MaxSize/64))) }

const minChunk, maxChunk = 256, 64 << 10

// Defaults when nothing is asked for: a log takes 30 MB and no more.
const (
	defaultMaxSize  = 10 << 20
	defaultMaxFiles = 3
)

// Parse reads a driver and its options as docker's users write them: max-size, max-file
// and compress. size reads a number with a unit.
func Parse(driver string, options map[string]string, size func(string) (int64, error)) (Options, error) {
	o := Options{Driver: driver, MaxSize: defaultMaxSize, MaxFiles: defaultMaxFiles, Compress: driver == Local}
	if driver == "" {
		o.Driver = JSONFile
	}
	drivers := []string{JSONFile, Local, Syslog, Journald, Gelf, Fluentd, None}
	if !slices.Contains(drivers, o.Driver) {
		near := spelling.Nearest(o.Driver, drivers)
		if near != "" {
			near = " (did you mean " + near + "?)"
		}
		return o, fmt.Errorf("--log-driver %s: use json-file, local, syslog, journald, gelf, fluentd or none%s", driver, near)
	}
	switch o.Driver {
	case Syslog:
		o.Syslog = defaultSyslog()
	case Gelf:
		o.Gelf = GelfOptions{Compression: "gzip", Level: 1}
	case Fluentd:
		o.Fluentd = FluentdOptions{Network: "tcp", Address: "127.0.0.1:24224", Acknowledge: true}
	}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if err := o.set(key, options[key], size); err != nil {
			return o, err
		}
	}
	if o.Driver == Gelf {
		return o, o.Gelf.check(options)
	}
	return o, o.Syslog.check()
}

// keys are the options of a driver.
func keys(driver string) []string {
	keys := []string{"max-size", "max-file", "labels", "env"}
	switch driver {
	case Syslog:
		return slices.Concat(keys, []string{"tag"}, syslogKeys)
	case Journald:
		return append(keys, "tag")
	case Gelf:
		return slices.Concat(keys, []string{"tag"}, gelfKeys)
	case Fluentd:
		return slices.Concat(keys, []string{"tag"}, fluentdKeys)
	}
	return append(keys, "compress")
}

func (o *Options) set(key, value string, size func(string) (int64, error)) (err error) {
	if o.Driver == None {
		return fmt.Errorf("--log-opt %s: the log driver none has no options", key)
	}
	if key == "mode" {
		if value == "blocking" {
			return nil
		}
		return fmt.Errorf("--log-opt mode=%s: a program waits while its log is slow, and nothing of its output is dropped: only blocking is known", value)
	}
	if known := keys(o.Driver); !slices.Contains(known, key) {
		return fmt.Errorf("--log-opt %s: the log driver %s knows %s", key, o.Driver, strings.Join(known, ", "))
	}
	switch key {
	case "labels":
		o.Labels = strings.Split(value, ",")
	case "env":
		o.Env = strings.Split(value, ",")
	case "tag":
		o.Tag, err = value, CheckTag(value)
	case "max-size":
		if value == "-1" {
			o.MaxSize = 1 << 62
			return nil
		}
		if o.MaxSize, err = size(value); err == nil && o.MaxSize <= 0 {
			err = errors.New("use a size greater than nothing, or -1 for no limit")
		}
	case "max-file":
		if o.MaxFiles, err = strconv.Atoi(value); err != nil || o.MaxFiles < 1 {
			err = errors.New("use a number from 1 on")
		}
	case "compress":
		if o.Compress, err = strconv.ParseBool(value); err != nil {
			err = errors.New("use true or false")
		}
	default:
		err = o.setTarget(key, value)
	}
	if err != nil {
		return fmt.Errorf("--log-opt %s=%s: %w", key, value, err)
	}
	return nil
}
