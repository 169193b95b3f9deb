package engine

import "starling/internal/graph"

// joint is a layer that a remote computes: usually one node, or several dense
// ones that read the same input, whose rows are then one below the other.
type joint struct {
	nodes []*graph.Node
	slot  int // of the result [Outer, rows of all nodes], once the first is compiled
	rows  int // of all nodes
	next  int // the first row of the node to be compiled next
}

// remote emits the step in which the remote computes a layer.
func (c *compiler) remote(number, x, dst int) {
	c.p.steps = append(c.p.steps, step{node: c.current.Name, kind: c.current.Op, layer: number, x: x, dst: dst})
	c.touch(x, dst)
}

// jointly emits the linear part of node n, l, of layer number: at the first
// node that of the whole layer, and at each the copying of its rows.
func (c *compiler) jointly(number int, n *graph.Node, l Linear, x, dst int) error {
	j := c.joint[number]
	if n == j.nodes[0] {
		all, _, err := jointOf(c.g, j.nodes)
		if err != nil {
			return err
		}
		j.rows = all.Rows
		j.slot = c.buffer(4 * l.Outer * j.rows)
		c.remote(number, x, j.slot)
	}
	c.emit(&rowsOp{dst: dst, src: j.slot, outer: l.Outer, rows: l.Rows, all: j.rows, begin: j.next}, dst, j.slot)
	j.next += l.Rows
	return nil
}

// rowsOp copies the rows from begin on of src [outer,all] to dst [outer,rows].
type rowsOp struct{ dst, src, outer, rows, all, begin int }

func (o *rowsOp) run(s *Session) {
	dst, src := s.f32(o.dst), s.f32(o.src)
	for i := range o.outer {
		copy(dst[i*o.rows:(i+1)*o.rows], src[i*o.all+o.begin:])
	}
}
