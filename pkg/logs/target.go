package logs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// SyslogOptions say how lines get to a syslog server.
type SyslogOptions struct {
	// Network is udp, tcp, tls, unix or unixgram; Address is HOST:PORT or a path.
	Network, Address string
	// Facility is 0 to 23, as RFC 5424 numbers them.
	Facility int
	// Micro has times written with microseconds.
	Micro bool
	// CA, Cert and Key are files in PEM form, for tls. SkipVerify believes any server.
	CA, Cert, Key string
	SkipVerify    bool
}

var syslogKeys = []string{"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"}

// facilities are in the order of their numbers.
var facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"ntp", "security", "console", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}

// LocalSyslog is the socket of the host's own server, see syslog(3).
const LocalSyslog = "/dev/log"

// defaultSyslog is the host's own server.
func defaultSyslog() SyslogOptions {
	return SyslogOptions{Network: "unixgram", Address: LocalSyslog, Facility: slices.Index(facilities, "daemon"), Micro: true}
}

func (o *SyslogOptions) set(key, value string) (err error) {
	switch key {
	case "syslog-address":
		o.Network, o.Address, err = syslogForm.parse(value)
	case "syslog-facility":
		o.Facility = slices.Index(facilities, value)
		if n, err := strconv.Atoi(value); err == nil && n >= 0 && n < len(facilities) {
			o.Facility = n
		}
		if o.Facility < 0 {
			err = fmt.Errorf("use one of %s", strings.Join(facilities, " "))
		}
	case "syslog-format":
		o.Micro = value == "rfc5424micro"
		if !o.Micro && value != "rfc5424" {
			err = errors.New("use rfc5424 or rfc5424micro: the older form has neither year nor zone")
		}
	case "syslog-tls-ca-cert":
		o.CA, err = absoluteFile(value)
	case "syslog-tls-cert":
		o.Cert, err = absoluteFile(value)
	case "syslog-tls-key":
		o.Key, err = absoluteFile(value)
	case "syslog-tls-skip-verify":
		o.SkipVerify, err = parseBool(value)
	}
	return err
}

func absoluteFile(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", errors.New("use an absolute path: it is opened later, and by another process")
	}
	return name, nil
}

// addressForm is what the address of a server looks like.
type addressForm struct {
	// ports are the schemes with HOST:PORT, and the port if none is said. paths are those with a path.
	ports map[string]string
	paths []string
	use   string
}

var syslogForm = addressForm{map[string]string{"udp": "514", "tcp": "514", "tcp+tls": "6514"}, []string{"unix", "unixgram"},
	"use udp://HOST:PORT, tcp://HOST:PORT, tcp+tls://HOST:PORT, unix:///PATH or unixgram:///PATH"}

// parse reads SCHEME://ADDRESS. The network of tcp+tls is tls.
func (f addressForm) parse(s string) (network, address string, err error) {
	scheme, address, ok := strings.Cut(s, "://")
	if ok && slices.Contains(f.paths, scheme) && path.IsAbs(address) {
		return scheme, address, nil
	}
	port, known := f.ports[scheme]
	if !ok || !known {
		return "", "", errors.New(f.use)
	}
	host := address
	if i := strings.LastIndexByte(address, ':'); i >= 0 && !strings.HasSuffix(address, "]") {
		host = address[:i]
		if address[i+1:] != "" {
			port = address[i+1:]
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@ ") {
		return "", "", errors.New(f.use)
	}
	return strings.TrimPrefix(scheme, "tcp+"), host + ":" + port, nil
}

// check refuses what does not go together.
func (o SyslogOptions) check() error {
	tls := o.CA != "" || o.Cert != "" || o.Key != "" || o.SkipVerify
	switch {
	case tls && o.Network != "tls":
		return errors.New("--log-opt syslog-tls-...: only a server at tcp+tls:// has a certificate")
	case (o.Cert == "") != (o.Key == ""):
		return errors.New("--log-opt syslog-tls-cert and syslog-tls-key: one needs the other")
	}
	return nil
}

// tagWords are what a tag may say.
var tagWords = []string{"{{.ID}}", "{{.FullID}}", "{{.Name}}", "{{.ImageName}}"}

// CheckTag refuses a tag with something in double braces that has no meaning.
func CheckTag(tag string) error {
	rest := tag
	for _, w := range tagWords {
		rest = strings.ReplaceAll(rest, w, "")
	}
	if strings.Contains(rest, "{{") {
		return fmt.Errorf("use text with %s", strings.Join(tagWords, " "))
	}
	return nil
}

// ExpandTag is what a tag means for a container.
func ExpandTag(tag, id, name, image string) string {
	short := id[:min(12, len(id))]
	if tag == "" {
		return short
	}
	return strings.NewReplacer("{{.ID}}", short, "{{.FullID}}", id, "{{.Name}}", name, "{{.ImageName}}", image).Replace(tag)
}
