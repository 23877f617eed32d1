package serve

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// getTags lists the tags of a repository.
func (s *Server) getTags(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := s.views.current()
	if err != nil {
		return err
	}
	repo := v.repos[t.repo.Path]
	if repo == nil {
		return refuse(http.StatusNotFound, nameUnknown, "there is no such repository")
	}
	page, err := pageOf(w, r, slices.Sorted(maps.Keys(repo.tags)))
	if err != nil {
		return err
	}
	return answerJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{t.repo.Path, page})
}

// getCatalog lists the repositories.
func (s *Server) getCatalog(w http.ResponseWriter, r *http.Request, _ target) error {
	v, err := s.views.current()
	if err != nil {
		return err
	}
	page, err := pageOf(w, r, slices.Sorted(maps.Keys(v.repos)))
	if err != nil {
		return err
	}
	return answerJSON(w, "application/json", map[string][]string{"repositories": page})
}

// maxPage is the longest page of a list.
const maxPage = 10_000

// pageOf returns the page of a sorted list that the query asks for with n and last, and adds the link to
// the next one.
func pageOf(w http.ResponseWriter, r *http.Request, all []string) ([]string, error) {
	query := r.URL.Query()
	n := maxPage
	if query.Has("n") {
		asked, err := strconv.Atoi(query.Get("n"))
		if err != nil || asked < 0 {
			return nil, refuse(http.StatusBadRequest, unsupported, "n is not a number of entries")
		}
		n = min(asked, maxPage)
	}
	if last := query.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	if n < len(all) {
		all = all[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {all[n-1]}}
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), next.Encode()))
		}
	}
	if all == nil {
		all = []string{}
	}
	return all, nil
}

// getReferrers lists what refers to a manifest, which need not be here.
func (s *Server) getReferrers(w http.ResponseWriter, r *http.Request, t target) error {
	v, err := s.views.current()
	if err != nil {
		return err
	}
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	index.SchemaVersion = 2
	kind := r.URL.Query().Get("artifactType")
	if repo := v.repository(t.repo.Path); repo != nil {
		for _, d := range repo.referrers[t.digest] {
			if kind == "" || d.ArtifactType == kind {
				index.Manifests = append(index.Manifests, d)
			}
		}
	}
	if kind != "" {
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	return answerJSON(w, v1.MediaTypeImageIndex, index)
}

// answerJSON sends a document.
func answerJSON(w http.ResponseWriter, contentType string, document any) error {
	data, err := json.Marshal(document)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, err = w.Write(data)
	return gone(err)
}
