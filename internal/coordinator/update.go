package coordinator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/link"
	"starling/internal/plan"
	"starling/internal/shard"
	"starling/internal/tensor"
)

// UpdateRows gives a split layer's node new weights for its output rows from
// begin on (for a convolution, output channels): rows [n,Cols] in the order of
// the node's linear part, whichever way its constant lies; see
// engine.LinearOf. bias, one value for each of these rows, becomes the node's, or
// is nil and it stays as it is, as all that follows does.
//
// A request sees all old weights or all new ones: those under way are awaited,
// later ones begin when the workers that are here hold the new weights, or have
// left, or ctx has ended; who does not hold them then counts as lost until it
// does. Workers are sent the new rows only, one that comes back later its
// whole shard. On an error nothing has changed.
func (c *Coordinator) UpdateRows(ctx context.Context, node string, begin int, rows, bias []float32) error {
	return c.update(ctx, node, begin, tensor.Bytes(rows), bias, false)
}

// UpdateQuantisedRows is UpdateRows for a node over integers: rows are bytes as its
// weights are, with the zero points that it has.
func (c *Coordinator) UpdateQuantisedRows(ctx context.Context, node string, begin int, rows []byte) error {
	return c.update(ctx, node, begin, rows, nil, true)
}

func (c *Coordinator) update(ctx context.Context, node string, begin int, rows []byte, bias []float32, integers bool) error {
	c.updating.Lock()
	defer c.updating.Unlock()
	u, err := c.newUpdate(node, begin, rows, bias, integers)
	if err != nil {
		return fmt.Errorf("update %s: %w", node, err)
	}
	held := make([]*call, 0, cap(c.idle))
	defer func() {
		for _, l := range held {
			c.idle <- l
		}
	}()
	for range cap(c.idle) {
		select {
		case l := <-c.idle:
			held = append(held, l)
		case <-ctx.Done():
			u.remove(u.shards, u.old)
			return ctx.Err()
		case <-c.ctx.Done():
			u.remove(u.shards, u.old)
			return ErrClosed
		}
	}
	u.commit(ctx)
	return nil
}

// update is one change of weights on its way.
type update struct {
	c       *Coordinator
	layer   int
	weights []byte          // of the whole layer
	bias    []float32       // new
	biasAt  []float32       // what it replaces
	patches [][]shard.Patch // by place
	old     []shard.Info
	shards  []shard.Info // new
}

// newUpdate computes what changes and writes the new shards.
func (c *Coordinator) newUpdate(node string, begin int, rows []byte, bias []float32, integers bool) (*update, error) {
	layer := slices.IndexFunc(c.plan.Layers, func(l plan.Layer) bool { return slices.Contains(l.Nodes, node) })
	if layer < 0 {
		return nil, errors.New("no split layer has this node")
	}
	pl := &c.plan.Layers[layer]
	if pl.Run != nil {
		return nil, fmt.Errorf("it is in the stage %s, whose weights stay as they are", pl.Node)
	}
	if isInteger(pl) != integers {
		return nil, fmt.Errorf("its weights are %v: float32 has UpdateRows, bytes UpdateQuantisedRows", weightType(pl))
	}
	var biasAt []float32
	first := 0 // row of the node in the layer
	for i, name := range pl.Nodes {
		l, _, err := engine.LinearOf(c.local.g, c.local.nodes[layer][i])
		if err != nil {
			return nil, err
		}
		if name != node {
			first += l.Rows
			continue
		}
		size := l.RowBytes()
		if integers {
			size = l.Cols // as given
		}
		if begin < 0 || len(rows) == 0 || len(rows)%size != 0 || len(rows)/size > l.Rows-begin {
			return nil, fmt.Errorf("%d weights from row %d on do not fit [%d,%d]", len(rows)*l.Cols/size, begin, l.Rows, l.Cols)
		}
		if bias != nil {
			all := c.program.Bias(node)
			switch {
			case len(bias) != len(rows)/size:
				return nil, fmt.Errorf("a bias of %d values for %d rows", len(bias), len(rows)/size)
			case len(all) != l.Rows:
				return nil, errors.New("it has no constant bias of one value a row")
			}
			biasAt = all[begin : begin+len(bias)]
		}
		if integers {
			rows = l.StoreRows(c.local.g, c.local.nodes[layer][i], begin, rows)
		}
		break
	}
	w, err := c.local.layerWeights(layer)
	if err != nil {
		return nil, err
	}
	begin += first
	end := begin + len(rows)/pl.Linear.RowBytes()
	u := &update{c: c, layer: layer, weights: slices.Clone(w), bias: bias, biasAt: biasAt, patches: make([][]shard.Patch, len(c.places))}
	copy(u.weights[begin*pl.Linear.RowBytes():], rows)
	patches, err := shard.Patches(pl, layer, u.weights, begin, end)
	if err != nil {
		return nil, err
	}
	for s, p := range patches {
		if p.Rows != nil {
			u.patches[pl.Workers[s]] = append(u.patches[pl.Workers[s]], p)
		}
	}
	c.mu.Lock()
	u.old = c.shards
	c.mu.Unlock()
	u.shards = slices.Clone(u.old)
	for w, p := range u.patches {
		if p == nil {
			continue
		}
		if u.shards[w], err = patch(u.old[w], p); err != nil {
			u.remove(u.shards[:w], u.old)
			return nil, err
		}
	}
	return u, nil
}

// patch writes the new shard beside the old one.
func patch(old shard.Info, patches []shard.Patch) (shard.Info, error) {
	from, err := shard.Open(old.Path)
	if err != nil {
		return shard.Info{}, err
	}
	defer from.Close()
	store, err := shard.OpenStore(filepath.Dir(old.Path))
	if err != nil {
		return shard.Info{}, err
	}
	return store.Patch(from, patches)
}

// remove removes the files of shards that are not among keep.
func (u *update) remove(shards, keep []shard.Info) {
	for _, info := range shards {
		if !slices.Contains(keep, info) {
			os.Remove(info.Path) // that it stays harms nobody
		}
	}
}

// updateTime is how long a worker may take to be sent new weights.
const updateTime = 10 * time.Second

// commit puts the new weights in place, while no request is under way.
func (u *update) commit(ctx context.Context) {
	c := u.c
	c.local.replace(u.layer, u.weights)
	copy(u.biasAt, u.bias)
	conns := make([]*link.Conn, len(c.members))
	c.mu.Lock()
	c.shards = u.shards
	for i, m := range c.members {
		switch {
		case m.shard == none || u.patches[m.shard] == nil:
		case m.leaving:
			c.release(m)
		default:
			m.ready, conns[i], m.since = false, m.conn, time.Now()
			m.version++
		}
	}
	c.announce()
	c.mu.Unlock()
	var sending sync.WaitGroup
	for i, conn := range conns {
		if conn != nil {
			sending.Go(func() { u.send(c.members[i], conn) })
		}
	}
	sending.Wait()
	for {
		waiting := false
		c.mu.Lock()
		for i, m := range c.members {
			waiting = waiting || m.place != none && conns[i] != nil && m.conn == conns[i] && !m.ready
		}
		changed := c.changed
		c.mu.Unlock()
		if !waiting {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
		break
	}
	for w := range c.places {
		if u.patches[w] == nil {
			continue
		}
		if c.made[u.old[w].SHA256] {
			u.remove(u.old[w:w+1], u.shards)
			delete(c.made, u.old[w].SHA256)
		}
		c.made[u.shards[w].SHA256] = true
	}
}

// send gives a worker the new rows and tells it which shard they make. One that
// does not take them is let go: it gets its shard when it comes back.
func (u *update) send(m *member, conn *link.Conn) {
	c := u.c
	ctx, cancel := context.WithTimeout(c.ctx, updateTime)
	defer cancel()
	c.mu.Lock()
	place, version := m.shard, m.version
	c.mu.Unlock()
	var err error
	for _, p := range u.patches[place] {
		if err != nil || len(p.Rows) > frame.DefaultMaxPayload {
			break // without the rows the worker asks for the whole shard
		}
		rows := link.PayloadOf(p.Rows)
		err = conn.Send(ctx, frame.Header{Type: frame.Update, Request: uint64(p.Begin), Layer: uint32(p.Layer), Nth: uint32(p.Nth)}, rows)
		rows.Release()
	}
	if err == nil {
		err = conn.Flush(ctx)
	}
	c.mu.Lock()
	// A spare may have been told to hold another place's shard meanwhile.
	if err == nil && m.conn == conn && m.version == version && !c.assign(m, place) {
		err = conn.Err()
	}
	c.mu.Unlock()
	if err != nil {
		conn.Close()
	}
}
