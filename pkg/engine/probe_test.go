package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// grpcServer speaks the health checking protocol of gRPC: its services and their status.
func grpcServer(t *testing.T, services map[string]byte) string {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Te") != "trailers" ||
			len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
			http.Error(w, "no health check", http.StatusBadRequest)
			return
		}
		name := ""
		if len(body) > 7 && body[5] == 0x0a && int(body[6]) == len(body)-7 {
			name = string(body[7:])
		}
		w.Header().Set("Content-Type", "application/grpc")
		status, known := services[name]
		if !known {
			w.Header().Set("Grpc-Status", "5") // NOT_FOUND
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		message := []byte{8, status}
		if status == 0 {
			message = nil // as protocol buffers have it
		}
		w.Write(append([]byte{0, 0, 0, 0, byte(len(message))}, message...))
		w.Header().Set("Grpc-Status", "0")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func here(ctx context.Context, _, address string) (net.Conn, error) {
	return dialLoopback(ctx, address)
}

// TestProbeGRPC: only SERVING is well; who does not know the service, or does not speak the protocol, is not.
func TestProbeGRPC(t *testing.T) {
	address := grpcServer(t, map[string]byte{"": 1, "up": 1, "down": 2, "new": 0})
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, c := range []struct{ url, failure string }{
		{"grpc://" + address + "/", ""},
		{"grpc://" + address + "/up", ""},
		{"grpc://" + address + "/down", "its status is 2 and not SERVING"},
		{"grpc://" + address + "/new", "its status is 0 and not SERVING"},
		{"grpc://" + address + "/unknown", `gRPC status "5"`},
		{"grpc://" + plain.Listener.Addr().String() + "/", ""},
	} {
		target, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := probeGRPC(t.Context(), here, target)
		switch {
		case strings.Contains(c.url, plain.Listener.Addr().String()):
			if !errors.Is(err, errUnwell) {
				t.Errorf("%s, which speaks no HTTP/2: %q, %v", c.url, answer, err)
			}
		case c.failure == "" && (err != nil || answer != "SERVING"):
			t.Errorf("%s: %q, %v", c.url, answer, err)
		case c.failure != "" && (!errors.Is(err, errUnwell) || !strings.Contains(err.Error(), c.failure)):
			t.Errorf("%s: %q, %v; want %s", c.url, answer, err, c.failure)
		}
	}
}

// TestServingStatus: an answer that is none is an error and nothing worse.
func TestServingStatus(t *testing.T) {
	for _, bad := range []string{"", "\x00", "\x01\x00\x00\x00\x00", "\x00\x00\x00\x00\x02\x08", "\x00\x00\x00\x00\x01\x08", "\x00\x00\x00\x00\x02\x10\x01", "\x00\xff\xff\xff\xff\x08\x01", "\x00\x00\x00\x00\x02\x08\x80"} {
		if n, err := servingStatus([]byte(bad)); err == nil {
			t.Errorf("%q is %d", bad, n)
		}
	}
}

// TestProbeHTTP: from 200 to 399 is well, a redirection is not followed, TLS needs no certificate that anybody vouches for.
func TestProbeHTTP(t *testing.T) {
	handler := http.NewServeMux()
	handler.HandleFunc("/ok", func(http.ResponseWriter, *http.Request) {})
	handler.Handle("/moved", http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	handler.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no database", http.StatusServiceUnavailable)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	for at, failure := range map[string]string{plain.URL + "/ok": "", secure.URL + "/ok": "", plain.URL + "/moved": "",
		plain.URL + "/bad": `503 Service Unavailable: "no database\n"`, plain.URL + "/none": "404", "http://127.0.0.1:1/": "connection refused"} {
		target, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := probeHTTP(t.Context(), here, target)
		if failure == "" && err != nil || failure != "" && (!errors.Is(err, errUnwell) || !strings.Contains(err.Error(), failure)) {
			t.Errorf("%s: %q, %v; want %q", at, answer, err, failure)
		}
	}
}
