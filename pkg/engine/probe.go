package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/containr/containr/internal/sys"
	"github.com/containr/containr/pkg/container"
)

// maxProbeAnswer is how much of an answer is read, in bytes.
const maxProbeAnswer = 64 << 10

// errUnwell means that a probe was answered, and the answer is that the container is not well, or that nobody answered.
var errUnwell = errors.New("the container is not well")

// Probe asks a container that runs what its health check says, once: by http, tcp or grpc, from within its network, so that neither ports
// nor programs in its image are needed. It returns what the answer was.
func (e *Engine) Probe(ctx context.Context, ref string) (answer string, err error) {
	record, _, err := e.running(ctx, ref)
	if err != nil {
		return "", err
	}
	if record.Check == nil || record.Check.Probe == "" {
		return "", fmt.Errorf("container %s: it has no health check by http, tcp or grpc", record.Name)
	}
	target, err := url.Parse(record.Check.Probe)
	if err != nil {
		return "", err
	}
	st, err := e.State(record)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, record.Check.Timeout)
	defer cancel()
	dial := func(ctx context.Context, _, address string) (net.Conn, error) { return dialIn(ctx, st.PID, address) }
	if record.Config.Namespaces.Network == container.HostNamespace {
		dial = func(ctx context.Context, _, address string) (net.Conn, error) { return dialLoopback(ctx, address) }
	}
	switch target.Scheme {
	case "tcp":
		conn, err := dial(ctx, "tcp", target.Host)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errUnwell, err)
		}
		return "connected", conn.Close()
	case "grpc":
		return probeGRPC(ctx, dial, target)
	}
	return probeHTTP(ctx, dial, target)
}

// checkProbe refuses a probe that cannot be made: a container of an ordinary user is in a network that only its own processes may enter.
func checkProbe(r container.Record) error {
	if r.Check == nil || r.Check.Probe == "" || os.Geteuid() == 0 || r.Config.Namespaces.Network == container.HostNamespace {
		return nil
	}
	return fmt.Errorf("health check %s: the network of an ordinary user's container cannot be entered from outside: use --health-cmd, or --network host", r.Check.Probe)
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// dialIn connects from the network of a process.
func dialIn(ctx context.Context, pid int, address string) (conn net.Conn, err error) {
	failed := sys.InNetworkOf(pid, func() error {
		conn, err = dialLoopback(ctx, address)
		return nil
	})
	if failed != nil {
		return nil, errors.Join(failed, err)
	}
	return conn, err
}

// dialLoopback connects. localhost are both loopback addresses, whatever the files of whom say.
func dialLoopback(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	hosts := []string{host}
	if host == container.ProbeHost {
		hosts = []string{"127.0.0.1", "::1"}
	}
	var failures []error
	for _, h := range hosts {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(h, port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures[:1]...)
}

// probeHTTP asks for a page. Any status from 200 to 399 is well; a redirection is not followed, and a certificate not looked at, as it is
// about whether the program answers.
func probeHTTP(ctx context.Context, dial dialer, target *url.URL) (string, error) {
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: maxProbeAnswer,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // #nosec G402: see above
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "containr-probe")
	response, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnwell, err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 256)) // the status is what counts
		return "", fmt.Errorf("%w: it answers %s: %q", errUnwell, response.Status, text)
	}
	return "it answers " + response.Status, nil
}

// probeGRPC asks by the health checking protocol of gRPC (grpc.health.v1.Health/Check): a message of one string, the service, and in the
// answer one number, 1 if it serves. It is HTTP/2 without TLS.
func probeGRPC(ctx context.Context, dial dialer, target *url.URL) (string, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{DialContext: dial, Protocols: protocols, MaxResponseHeaderBytes: maxProbeAnswer}}
	defer client.CloseIdleConnections()
	var service []byte
	if len(target.Path) > 1 {
		service = append([]byte{1<<3 | 2}, binary.AppendUvarint(nil, uint64(len(target.Path)-1))...)
		service = append(service, target.Path[1:]...)
	}
	message := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(service))), service...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target.Host+"/grpc.health.v1.Health/Check", bytes.NewReader(message))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	response, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnwell, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxProbeAnswer))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnwell, err)
	}
	status := response.Trailer.Get("Grpc-Status")
	if status == "" {
		status = response.Header.Get("Grpc-Status") // an answer without a message
	}
	if response.StatusCode != http.StatusOK || status != "0" {
		return "", fmt.Errorf("%w: it answers %s, gRPC status %q", errUnwell, response.Status, status)
	}
	serving, err := servingStatus(body)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUnwell, err)
	}
	if serving != 1 {
		return "", fmt.Errorf("%w: its status is %d and not SERVING", errUnwell, serving)
	}
	return "SERVING", nil
}

// servingStatus reads the answer of a health check: not compressed, its length, and field 1. An empty message is 0, UNKNOWN.
func servingStatus(body []byte) (uint64, error) {
	bad := fmt.Errorf("its answer is none of the health checking protocol: %.40q", body)
	if len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-5) {
		return 0, bad
	}
	if len(body) == 5 {
		return 0, nil
	}
	n, length := binary.Uvarint(body[6:])
	if body[5] != 1<<3 || length <= 0 {
		return 0, bad
	}
	return n, nil
}
