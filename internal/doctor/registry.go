package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// patience is how long a registry has to answer.
const patience = 10 * time.Second

// askRegistry asks whether a registry is there: it answers to GET /v2/, if only that one has to log in.
func askRegistry(ctx context.Context, name string) Registry {
	r := Registry{Name: name}
	at := name
	if name == "docker.io" {
		at = "registry-1.docker.io"
	}
	if !strings.Contains(at, "://") {
		at = "https://" + at
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(at, "/")+"/v2/", nil)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusUnauthorized {
		r.Error = fmt.Sprintf("it answers, but not as a registry: %s", answer.Status)
	}
	return r
}
