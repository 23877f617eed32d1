package fakeregistry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// serveList answers with the tags of a repository or the catalog, two at a time so that
// there are pages. It reports whether that was asked.
func (r *Registry) serveList(w http.ResponseWriter, req *http.Request, fault *Fault) bool {
	repository, tags := strings.CutSuffix(strings.TrimPrefix(req.URL.Path, "/v2/"), "/tags/list")
	switch {
	case req.URL.Path == "/v2/" && fault == nil:
		return true // the answer to who asks whether a registry is here
	case fault != nil, !tags && req.URL.Path != "/v2/_catalog":
		return false
	}
	all := r.list(repository, tags)
	from, _ := strconv.Atoi(req.URL.Query().Get("from"))
	to := min(from+2, len(all))
	if to < len(all) {
		w.Header().Set("Link", fmt.Sprintf(`<%s?from=%d>; rel="next"`, req.URL.Path, to))
	}
	key := "repositories"
	if tags {
		key = "tags"
	}
	json.NewEncoder(w).Encode(map[string]any{key: all[from:to]})
	return true
}

// list returns the tags of a repository, or else all repositories.
func (r *Registry) list(repository string, tags bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for name := range r.manifests {
		where, tag, ok := strings.Cut(name, ":")
		switch {
		case !ok || strings.Contains(where, "@"):
		case tags && where == repository:
			all = append(all, tag)
		case !tags:
			all = append(all, where)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
