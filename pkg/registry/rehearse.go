package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/go-units"

	"github.com/containr/containr/pkg/image"
)

// rehearse tells of the requests for layers, which it makes as a pull does, to the point
// where they would be sent.
func (p *puller) rehearse(ctx context.Context, layers []image.Layer) error {
	ctx = context.WithValue(ctx, rehearsalKey{}, true)
	c := p.source.clients[0]
	for i, l := range layers {
		why := fmt.Sprintf("Layer %d of %d, %s.", i+1, len(layers), units.HumanSize(float64(l.Descriptor.Size)))
		if p.request.Store.Has(l.Descriptor) {
			if p.request.Trace != nil {
				p.request.Trace(Exchange{Why: why + " It is here already: nothing is asked."})
			}
			continue
		}
		resp, err := c.requestFrom(because(ctx, why), l.Descriptor, 0)
		if err == nil {
			resp.Body.Close()
			return fmt.Errorf("layer %s was asked for, and not rehearsed", l.Descriptor.Digest)
		}
		if !errors.Is(err, errRehearsed) {
			return err
		}
	}
	return nil
}
