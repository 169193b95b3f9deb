package engine

import (
	"starling/internal/graph"
	"starling/internal/tensor"
)

// joint is a layer that a remote computes: usually one node, or several dense
// ones that read the same input, whose rows are then one below the other.
type joint struct {
	nodes []*graph.Node
	slot  int // of the result [Outer, rows of all nodes], once the first is compiled
	rows  int // of all nodes
	next  int // the first row of the node to be compiled next
}

// remote emits the step in which the remote computes a layer.
func (c *compiler) remote(number int, x operand, dst int) {
	c.p.steps = append(c.p.steps, step{node: c.current.Name, kind: c.current.Op, layer: number, dst: dst, operand: x})
	c.touch(x.x, dst)
	if x.zero >= 0 {
		c.touch(x.zero)
	}
}

// operand is what a split layer reads: its slot, and of an input over integers the
// slot of its zero point, -1 for none, and the type of both.
type operand struct {
	x, zero int
	xType   tensor.DType
}

// remotely emits the linear part of node n, l, which is of layer number. Several
// nodes are computed at the first of them, and at each its rows are copied.
func (c *compiler) remotely(number int, n *graph.Node, l Linear, x operand, dst int) error {
	c.split[n.Name], c.p.split = true, true
	j := c.joint[number]
	if len(j.nodes) == 1 {
		c.remote(number, x, dst)
		return nil
	}
	if n == j.nodes[0] {
		all, _, err := jointOf(c.g, j.nodes)
		if err != nil {
			return err
		}
		j.rows = all.Rows
		j.slot = c.buffer(all.OutputBytes())
		c.remote(number, x, j.slot)
	}
	c.emit(&rowsOp{dst: dst, src: j.slot, outer: l.Outer, rows: l.Rows, all: j.rows, begin: j.next}, dst, j.slot)
	j.next += l.Rows
	return nil
}

// rowsOp copies the rows from begin on of src [outer,all] to dst [outer,rows], of
// elements of four bytes.
type rowsOp struct{ dst, src, outer, rows, all, begin int }

func (o *rowsOp) run(s *Session) {
	dst, src := s.data[o.dst], s.data[o.src]
	for i := range o.outer {
		copy(dst[4*i*o.rows:4*(i+1)*o.rows], src[4*(i*o.all+o.begin):])
	}
}
