package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/hosts"
)

// Bounds on lists, which come in pages.
const (
	maxListSize = 4 << 20 // bytes of one page
	maxPages    = 1000
	pageSize    = 1000 // entries to ask for
)

// Tags returns the tags of a repository in the registry's order (which the specification
// wants to be lexical), no more than limit of them unless it is zero.
func Tags(ctx context.Context, a Access, ref image.Reference, limit int) ([]string, error) {
	clients, err := a.pullClients(ref, 1)
	if err != nil {
		return nil, fmt.Errorf("list tags of %s: %w", ref.Name(), err)
	}
	c := clients[len(clients)-1] // a mirror may have some only
	defer c.close()
	var tags []string
	err = c.pages(ctx, "tags of "+c.repository, c.url("tags/list?n="+strconv.Itoa(pageSize)), func(data []byte) (bool, error) {
		var page struct{ Tags []string }
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		for _, tag := range page.Tags {
			if !image.IsTag(tag) {
				return false, fmt.Errorf("%q is no tag", printable(tag))
			}
		}
		tags = append(tags, page.Tags...)
		return limit > 0 && len(tags) >= limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tags of %s: %w", ref.Name(), err)
	}
	if limit > 0 && len(tags) > limit {
		tags = tags[:limit]
	}
	return tags, nil
}

// pages fetches a list page by page. take reads one, and says whether it has enough.
func (c *client) pages(ctx context.Context, what string, u *url.URL, take func([]byte) (bool, error)) error {
	for range maxPages {
		var next *url.URL
		var enough bool
		err := c.try(ctx, what, func(ctx context.Context) (int64, error) {
			data, after, err := c.page(ctx, u)
			if err != nil {
				return 0, err
			}
			next = after
			if enough, err = take(data); err != nil {
				return 0, &Error{Fault: ErrFailed, Detail: "not the document that was asked for", Err: err}
			}
			return 0, nil
		})
		if err != nil || enough || next == nil {
			return err
		}
		u = next
	}
	return &Error{Registry: c.registry, What: what, Fault: ErrTooLong, Detail: fmt.Sprintf("more than %d pages", maxPages)}
}

// page fetches one page, and the address of the next, nil if it was the last.
func (c *client) page(ctx context.Context, u *url.URL) ([]byte, *url.URL, error) {
	ctx, watch := c.watch(ctx)
	defer watch.stop()
	resp, err := c.send(ctx, http.MethodGet, u, nil, nil, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := readDocument(watch.reader(resp.Body), maxListSize)
	if err != nil {
		return nil, nil, err
	}
	link := resp.Header.Get("Link")
	if link == "" {
		return data, nil, nil
	}
	target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	here := resp.Request.URL // not u: a registry on this machine may have been asked without TLS
	next, err := here.Parse(target)
	if !ok || err != nil || next.Host != u.Host || next.Scheme != here.Scheme {
		return nil, nil, &Error{Fault: ErrFailed, Detail: fmt.Sprintf("the next page is at %q", printable(link))}
	}
	return data, next, nil
}

// Found is one line of a search.
type Found struct {
	Name        string // to pull it by
	Description string
	Stars       int
	Official    bool
	Automated   bool
}

// SearchRequest asks what a registry has.
type SearchRequest struct {
	Access
	Domain string // host[:port]; docker.io by default
	Term   string // may be empty
	Limit  int    // results
}

// Search asks a registry what it has: over the interface for searches that Docker Hub
// has and some others, and else in the list of all repositories, in which names with the
// term in them count.
func Search(ctx context.Context, r SearchRequest) ([]Found, error) {
	found, err := search(ctx, &r)
	if err != nil {
		return nil, fmt.Errorf("search %s: %w", r.Domain, err)
	}
	return found, nil
}

func search(ctx context.Context, r *SearchRequest) ([]Found, error) {
	e := hosts.Default(r.Domain, "")
	if endpoints, err := r.Hosts.Endpoints(r.Domain, ""); err != nil {
		return nil, err
	} else if r.Domain != "docker.io" {
		e = endpoints[len(endpoints)-1]
		e.Repository = strings.Trim(e.Repository, "/")
	}
	root := e.Root
	if r.Domain == "docker.io" {
		e.Host = "index.docker.io"
	}
	e.Root = ""
	e.Insecure = e.Insecure || r.Insecure
	c, err := r.newClient(e, 1)
	if err != nil {
		return nil, err
	}
	defer c.close()
	found, err := c.searchIndex(ctx, r)
	if e, ok := err.(*Error); ok && r.Domain != "docker.io" && e.Fault != ErrUnreachable && e.Fault != ErrBusy && e.Fault != ErrOffline {
		c.root = root
		return c.searchCatalog(ctx, r)
	}
	return found, err
}

// searchIndex asks the interface of Docker Hub.
func (c *client) searchIndex(ctx context.Context, r *SearchRequest) ([]Found, error) {
	query := url.Values{"q": {r.Term}, "n": {strconv.Itoa(r.Limit)}}
	var found []Found
	err := c.pages(ctx, "search for "+strconv.Quote(r.Term), c.absolute("/v1/search?"+query.Encode()), func(data []byte) (bool, error) {
		var page struct {
			Results []struct {
				Name        string
				Description string
				StarCount   int  `json:"star_count"`
				IsOfficial  bool `json:"is_official"`
				IsAutomated bool `json:"is_automated"`
			}
		}
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		for _, x := range page.Results {
			name := printable(x.Name)
			if r.Domain != "docker.io" {
				name = r.Domain + "/" + name
			}
			found = append(found, Found{Name: name, Description: printable(x.Description), Stars: x.StarCount, Official: x.IsOfficial, Automated: x.IsAutomated})
		}
		return true, nil
	})
	return found[:min(len(found), r.Limit)], err
}

// searchCatalog looks through the list of all repositories.
func (c *client) searchCatalog(ctx context.Context, r *SearchRequest) ([]Found, error) {
	ctx = auth.AppendScopesForHost(ctx, c.registry, "registry:catalog:*")
	var found []Found
	err := c.pages(ctx, "catalog", c.absolute("/_catalog?n="+strconv.Itoa(pageSize)), func(data []byte) (bool, error) {
		var page struct{ Repositories []string }
		if err := json.Unmarshal(data, &page); err != nil {
			return false, err
		}
		for _, name := range page.Repositories {
			if strings.Contains(name, r.Term) && len(found) < r.Limit {
				found = append(found, Found{Name: r.Domain + "/" + printable(name)})
			}
		}
		return len(found) >= r.Limit, nil
	})
	return found, err
}

// SplitTerm splits REGISTRY/TERM, where the registry is one as in the name of an image.
func SplitTerm(s string) (domain, term string, err error) {
	first, rest, ok := strings.Cut(s, "/")
	if !ok || first != "localhost" && !strings.ContainsAny(first, ".:") {
		return "docker.io", s, nil
	}
	domain, err = ParseHost(first)
	return domain, rest, err
}
