package forward

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containr/containr/pkg/logs"
)

// Severities of RFC 5424 that the two outputs have.
const (
	severityError = 3
	severityInfo  = 6
)

// syslog sends messages of RFC 5424. Over tcp and unix each ends with a newline, over tls it
// begins with its length (RFC 5425), and a datagram is one message.
type syslog struct {
	o      logs.SyslogOptions
	tls    *tls.Config
	header string // what follows the time: host, name, process id
	conn   net.Conn
	buf    []byte
}

func newSyslog(o logs.Options, s Source) (*syslog, error) {
	t := &syslog{o: o.Syslog, header: " " + word(s.Host, 255) + " " + word(logs.ExpandTag(o.Tag, s.ID, s.Name, s.Image), 48) + " - "}
	if o.Syslog.Network != "tls" {
		return t, nil
	}
	t.tls = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Syslog.SkipVerify}
	if o.Syslog.CA != "" {
		pem, err := os.ReadFile(o.Syslog.CA)
		if err != nil {
			return nil, fmt.Errorf("--log-opt syslog-tls-ca-cert: %w", err)
		}
		t.tls.RootCAs = x509.NewCertPool()
		if !t.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--log-opt syslog-tls-ca-cert %s: no certificate in it", o.Syslog.CA)
		}
	}
	if o.Syslog.Cert != "" {
		own, err := tls.LoadX509KeyPair(o.Syslog.Cert, o.Syslog.Key)
		if err != nil {
			return nil, fmt.Errorf("--log-opt syslog-tls-cert: %w", err)
		}
		t.tls.Certificates = []tls.Certificate{own}
	}
	return t, nil
}

// word makes a field of the header: printable characters of ASCII without blanks.
func word(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(most, len(s))]
}

// Send sends the first record.
func (t *syslog) Send(records []logs.Record) (int, error) {
	if err := t.send(records[0]); err != nil {
		return 0, err
	}
	return 1, nil
}

func (t *syslog) send(r logs.Record) error {
	if t.conn != nil && hungUp(t.conn) {
		t.Close()
	}
	if t.conn == nil {
		var err error
		if t.conn, err = dial(t.o.Network, t.o.Address, t.tls); err != nil {
			return fmt.Errorf("syslog %s: %w", t.o.Address, err)
		}
	}
	t.buf = t.message(t.buf[:0], r)
	err := t.conn.SetWriteDeadline(time.Now().Add(sendTime))
	if err == nil {
		_, err = t.conn.Write(t.buf)
	}
	if err != nil {
		t.Close()
		return fmt.Errorf("syslog %s: %w", t.o.Address, err)
	}
	return nil
}

// message writes one message as the network wants it.
func (t *syslog) message(to []byte, r logs.Record) []byte {
	severity, id := severityInfo, "stdout"
	if r.Stream == logs.Stderr {
		severity, id = severityError, "stderr"
	}
	format := "2006-01-02T15:04:05Z07:00"
	if t.o.Micro {
		format = "2006-01-02T15:04:05.000000Z07:00"
	}
	to = append(to, '<')
	to = strconv.AppendInt(to, int64(t.o.Facility*8+severity), 10)
	to = append(to, ">1 "...)
	to = r.Time.UTC().AppendFormat(to, format)
	to = append(to, t.header...)
	to = append(to, id...)
	to = append(to, " - "...)
	to = append(to, bytes.TrimSuffix(r.Data, []byte{'\n'})...)
	switch t.o.Network {
	case "tcp", "unix":
		to = append(to, '\n')
	case "tls":
		to = append(strconv.AppendInt(nil, int64(len(to)), 10), append([]byte{' '}, to...)...)
	}
	return to
}

func (t *syslog) Close() error {
	if t.conn == nil {
		return nil
	}
	conn := t.conn
	t.conn = nil
	return conn.Close()
}
