package engine

import (
	"context"

	"github.com/containr/containr/pkg/registry"
	"github.com/containr/containr/pkg/registry/credential"
)

// LoginRequest asks for a credential to be tried and kept.
type LoginRequest struct {
	RegistryAccess
	// Registry is host[:port]; empty is Docker Hub.
	Registry           string
	Username, Password string
}

// LoggedIn says what became of a credential.
type LoggedIn struct {
	Registry string
	credential.Where
	// Checked is false if the registry let us in without asking.
	Checked bool
}

// Login tries a user's credential with a registry and keeps it if it is right.
func (e *Engine) Login(ctx context.Context, r LoginRequest) (*LoggedIn, error) {
	host, err := registry.ParseHost(r.Registry)
	if err != nil {
		return nil, err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	access.Credential = &registry.Credential{Username: r.Username, Password: r.Password}
	answer, err := registry.Login(ctx, access, host)
	if err != nil {
		return nil, err
	}
	where, err := credential.Save(ctx, host, answer.Credential)
	return &LoggedIn{Registry: host, Where: where, Checked: answer.Checked}, err
}

// LogoutRequest asks for the credential of a registry to be forgotten.
type LogoutRequest struct {
	Registry string // host[:port]; empty is Docker Hub
}

// Logout forgets a credential, and returns its registry and where it was.
func (e *Engine) Logout(ctx context.Context, r LogoutRequest) (string, []credential.Where, error) {
	host, err := registry.ParseHost(r.Registry)
	if err != nil {
		return "", nil, err
	}
	removed, err := credential.Remove(ctx, host)
	return host, removed, err
}

// SearchRequest asks what a registry has.
type SearchRequest struct {
	RegistryAccess
	// Term is what to look for, REGISTRY/ before it where to: Docker Hub if there is none.
	Term  string
	Limit int
}

// Search asks a registry for repositories.
func (e *Engine) Search(ctx context.Context, r SearchRequest) ([]registry.Found, error) {
	domain, term, err := registry.SplitTerm(r.Term)
	if err != nil {
		return nil, err
	}
	access, err := e.access(r.RegistryAccess)
	if err != nil {
		return nil, err
	}
	return registry.Search(ctx, registry.SearchRequest{Access: access, Domain: domain, Term: term, Limit: r.Limit})
}
