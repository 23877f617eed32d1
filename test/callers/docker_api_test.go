package callers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/template"
)

// dockerAPI asks the daemon at a socket for what these commands of docker ask it, and answers as docker does:
//
//	info --format TEMPLATE
//	inspect --format TEMPLATE CONTAINER
//	image inspect --format TEMPLATE IMAGE
//	rm CONTAINER
//	rm -f CONTAINER
func dockerAPI(socket string) func(context.Context, []string) (answer, bool) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true, // nobody closes what would be kept
	}}
	return func(ctx context.Context, args []string) (answer, bool) {
		method, format, path := http.MethodGet, "", ""
		for _, c := range []struct{ words, method, path string }{
			{"info --format", http.MethodGet, "/info"},
			{"inspect --format", http.MethodGet, "/containers/%s/json"},
			{"image inspect --format", http.MethodGet, "/images/%s/json"},
			{"rm", http.MethodDelete, "/containers/%s"},
			{"rm -f", http.MethodDelete, "/containers/%s?force=1"},
		} {
			words := strings.Fields(c.words)
			rest := args[min(len(words), len(args)):]
			if len(rest) == 0 || strings.Join(args[:len(words)], " ") != c.words {
				continue
			}
			if method = c.method; method == http.MethodGet {
				format, rest = rest[0], rest[1:]
			}
			if len(rest) != strings.Count(c.path, "%s") {
				continue
			}
			if path = c.path; len(rest) == 1 {
				path = fmt.Sprintf(path, rest[0])
			}
			break
		}
		if path == "" {
			return answer{}, false
		}
		out, err := ask(ctx, client, method, "http://docker"+path, format)
		if err != nil {
			return answer{code: 1, stderr: err.Error() + "\n"}, true
		}
		return answer{stdout: out}, true
	}
}

// ask makes a request and prints the answer, if there is one, by the template, as docker's --format does.
func ask(ctx context.Context, client *http.Client, method, url, format string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	if response.StatusCode >= 300 {
		return "", fmt.Errorf("%s %s: %s: %s", method, url, response.Status, body)
	}
	if format == "" {
		return "", nil
	}
	t, err := template.New("format").Option("missingkey=error").Parse(format)
	if err != nil {
		return "", err
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return "", fmt.Errorf("%s %s: %w", method, url, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, value); err != nil {
		return "", err
	}
	return out.String() + "\n", nil
}
