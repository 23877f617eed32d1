package container

import "testing"

func TestProbeAddresses(t *testing.T) {
	for _, c := range []struct {
		parse    func(string) (string, error)
		in, want string
	}{
		{ParseHealthHTTP, ":8080/healthz?deep=1", "http://localhost:8080/healthz?deep=1"},
		{ParseHealthHTTP, "https://10.0.0.1", "https://10.0.0.1:443/"},
		{ParseHealthHTTP, "/ok", "http://localhost:80/ok"},
		{ParseHealthHTTP, "http://[::1]:81/", "http://[::1]:81/"},
		{ParseHealthHTTP, "http://example.org/", ""},
		{ParseHealthHTTP, "ftp://localhost/", ""},
		{ParseHealthHTTP, "http://user:secret@localhost/", ""},
		{ParseHealthHTTP, ":70000/", ""},
		{ParseHealthTCP, "5432", "tcp://localhost:5432"},
		{ParseHealthTCP, "127.0.0.1:22", "tcp://127.0.0.1:22"},
		{ParseHealthTCP, "[::1]:22", "tcp://[::1]:22"},
		{ParseHealthTCP, "0", ""},
		{ParseHealthTCP, "host:1", ""},
		{ParseHealthTCP, "1/x", ""},
		{ParseHealthGRPC, "50051", "grpc://localhost:50051/"},
		{ParseHealthGRPC, "10.0.0.1:50051/my.Service", "grpc://10.0.0.1:50051/my.Service"},
		{ParseHealthGRPC, "", ""},
	} {
		got, err := c.parse(c.in)
		if (err == nil) != (c.want != "") || err == nil && got != c.want {
			t.Errorf("%q is %q (%v), want %q", c.in, got, err, c.want)
		}
	}
}
