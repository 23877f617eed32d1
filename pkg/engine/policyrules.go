package engine

import (
	"github.com/containr/containr/internal/nft"
	"github.com/containr/containr/pkg/network/policy"
)

// policyRules is the table of the rules of policies, with what it had when that was asked: in the network namespace of who gives the
// command, or, for the networks of an ordinary user, in the hub, whose process is asked.
type policyRules struct {
	nft.Contents
	engine *Engine
	table  nft.Table
	hub    bool
	// passing says that the hub need not stay for who asks.
	passing bool
	there   bool
}

// policyRules asks what there is. The error is errNoHub if there is nothing that rules could be in. passing: see hubRequest.
func (e *Engine) policyRules(passing bool) (*policyRules, error) {
	hub, err := e.usesHub()
	if err != nil {
		return nil, err
	}
	r := &policyRules{engine: e, table: e.policyTable(), hub: hub, passing: passing}
	answer, err := r.ask(rulesRequest{Table: r.table})
	if err != nil {
		return nil, err
	}
	r.there, r.Contents = answer.There, answer.Contents
	return r, nil
}

// transact is nft.Transact.
func (r *policyRules) transact(messages ...string) error {
	if len(messages) == 0 {
		return nil
	}
	request := rulesRequest{}
	for _, m := range messages {
		request.Messages = append(request.Messages, []byte(m))
	}
	_, err := r.ask(request)
	return err
}

// mostAtOnce is how much one transaction in a hub has, in bytes: kernels take it from somebody without rights over the host, unless the
// administrator has lowered net.core.wmem_max (212,992, of which twice counts). The last part of a replacement may be larger, see Parts.
const mostAtOnce = 128 << 10

// replace makes the table exactly what new rules say.
func (r *policyRules) replace(by *policy.Rules) error {
	parts := [][]string{by.Replace(r.Contents)}
	if r.hub {
		parts = by.Parts(r.Contents, mostAtOnce)
	}
	for _, part := range parts {
		if err := r.transact(part...); err != nil {
			return err
		}
	}
	return nil
}

// elements lists what a set has.
func (r *policyRules) elements(s nft.Set) ([]nft.Element, error) {
	answer, err := r.ask(rulesRequest{Table: s.Table, Set: s.Name})
	if err != nil {
		return nil, err
	}
	for i := range answer.Elements {
		answer.Elements[i].Key = string(answer.Keys[i])
	}
	return answer.Elements, nil
}

func (r *policyRules) ask(q rulesRequest) (*rulesReply, error) {
	if !r.hub {
		return q.do()
	}
	answer, err := r.engine.hub.ask(r.engine, hubRequest{Rules: &q, Passing: r.passing}, false)
	if err == nil {
		err = answer.err()
	}
	if err != nil {
		return nil, err
	}
	return answer.Rules, nil
}

// rulesRequest asks what a table has; or with Set what that has; or with Messages changes something.
type rulesRequest struct {
	Table    nft.Table `json:"table,omitempty"`
	Set      string    `json:"set,omitempty"`
	Messages [][]byte  `json:"messages,omitempty"`
}

// rulesReply is the answer. Keys are those of Elements, which are no text.
type rulesReply struct {
	There    bool          `json:"there,omitempty"`
	Contents nft.Contents  `json:"contents,omitzero"`
	Elements []nft.Element `json:"elements,omitempty"`
	Keys     [][]byte      `json:"keys,omitempty"`
}

// do answers it, in the network namespace of the caller.
func (q rulesRequest) do() (*rulesReply, error) {
	answer := new(rulesReply)
	var err error
	switch {
	case q.Messages != nil:
		var messages []string
		for _, m := range q.Messages {
			messages = append(messages, string(m))
		}
		return answer, nft.Transact(messages...)
	case q.Set != "":
		if answer.Elements, err = (nft.Set{Table: q.Table, Name: q.Set}).Elements(); err != nil {
			return answer, err
		}
		for _, e := range answer.Elements {
			answer.Keys = append(answer.Keys, []byte(e.Key))
		}
	default:
		if answer.There, err = nft.Exists(q.Table); err == nil && answer.There {
			answer.Contents, err = q.Table.Contents()
		}
	}
	return answer, err
}
