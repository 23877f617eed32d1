package container

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// ProbeHost is the host of a probe that names none: the container itself, by IPv4 or IPv6.
const ProbeHost = "localhost"

// ParseHealthHTTP reads where a health check by http asks: [http[s]://][HOST][:PORT][/PATH]. The result is a URL with all of these.
func ParseHealthHTTP(s string) (string, error) {
	text := s
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Fragment != "" {
		return "", fmt.Errorf("%q: use [http[s]://][HOST][:PORT][/PATH], such as :8080/healthz", s)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if u.Host, err = probeAddress(s, u.Hostname(), port); err != nil {
		return "", err
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), nil
}

// ParseHealthTCP reads where a health check connects to: [HOST:]PORT.
func ParseHealthTCP(s string) (string, error) {
	address, err := hostAndPort(s, s)
	return "tcp://" + address, err
}

// ParseHealthGRPC reads where a health check asks by gRPC, and for which service: [HOST:]PORT[/SERVICE].
func ParseHealthGRPC(s string) (string, error) {
	before, service, _ := strings.Cut(s, "/")
	address, err := hostAndPort(s, before)
	return (&url.URL{Scheme: "grpc", Host: address, Path: "/" + service}).String(), err
}

func hostAndPort(said, s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = "", s
	}
	return probeAddress(said, host, port)
}

// probeAddress is the address of a probe. Names are not looked up: what they mean in the container only its programs know.
func probeAddress(said, host, port string) (string, error) {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q: %q is not a port", said, port)
	}
	if host == "" {
		host = ProbeHost
	}
	if host != ProbeHost && net.ParseIP(host) == nil {
		return "", fmt.Errorf("%q: %q is not an address; leave it out for the container itself", said, host)
	}
	return net.JoinHostPort(host, port), nil
}
