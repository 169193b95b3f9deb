package input

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// NPYWriter writes answers, stacked along axis 0, to an .npy file. The file
// has another name until Commit, so that a failure leaves nothing behind.
type NPYWriter struct {
	path   string
	info   graph.Info
	file   *os.File
	offset int64 // of the first answer

	mu      sync.Mutex // guards the fields below
	written []bool
	missing int
}

// CreateNPY starts a file for count answers of the given type and shape. Its
// shape is [count, shape...], or [count, shape[1:]...] where shape[0] is 1:
// what Open reads back as count inputs. The caller ends with Commit or Abort.
func CreateNPY(path string, count int, info graph.Info) (*NPYWriter, error) {
	header, err := npyHeaderFor(count, info)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	switch st, err := os.Stat(path); {
	case err == nil && !st.Mode().IsRegular():
		return nil, fmt.Errorf("write %s: is not a regular file; name a file", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	// os.CreateTemp would ignore the umask.
	temp := path + "." + strconv.FormatUint(rand.Uint64(), 36) + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w; choose a directory that exists and is writable", path, errors.Unwrap(err))
	}
	w := &NPYWriter{
		path: path, info: info, file: f, offset: int64(len(header)),
		written: make([]bool, count), missing: count,
	}
	if _, err := f.Write(header); err != nil {
		w.Abort()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return w, nil
}

// Write puts answer i, of CreateNPY's type and shape, in its place. Answers
// may come in any order and from several goroutines; each is written once.
func (w *NPYWriter) Write(i int, t *tensor.Tensor) error {
	if t.Type != w.info.Type || !t.Shape.Equal(w.info.Shape) {
		return fmt.Errorf("write %s: answer %d is %v %v, not %v %v", w.path, i, t.Type, t.Shape, w.info.Type, w.info.Shape)
	}
	w.mu.Lock()
	if w.written[i] {
		panic(fmt.Sprintf("input: answer %d written twice", i))
	}
	w.written[i] = true
	w.missing--
	w.mu.Unlock()
	if _, err := w.file.WriteAt(t.Data, w.offset+int64(i)*int64(len(t.Data))); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}

// Commit syncs the file and gives it its name, replacing an older one. On an
// error, as when an answer is missing, it does what Abort does. No Write may
// be under way.
func (w *NPYWriter) Commit() error {
	defer w.Abort()
	if w.missing > 0 {
		return fmt.Errorf("write %s: %d of %d answers are missing; nothing is written", w.path, w.missing, len(w.written))
	}
	if err := w.file.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// Abort removes what was written. After Commit or Abort it does nothing.
func (w *NPYWriter) Abort() {
	if w.file == nil {
		return
	}
	// Nothing can be done about a file that cannot be removed.
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
	w.file = nil
}

func npyHeaderFor(count int, info graph.Info) ([]byte, error) {
	descr := ""
	for s, t := range npyTypes {
		if t == info.Type {
			descr = s
		}
	}
	if descr == "" {
		return nil, fmt.Errorf("an .npy file cannot hold %v; choose another output", info.Type)
	}
	rest := info.Shape
	if len(rest) > 0 && rest[0] == 1 {
		rest = rest[1:]
	}
	var shape strings.Builder
	fmt.Fprintf(&shape, "(%d,", count)
	for i, d := range rest {
		if i > 0 {
			shape.WriteByte(',')
		}
		fmt.Fprintf(&shape, " %d", d)
	}
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s), }", descr, shape.String())
	// The elements start at a multiple of 64 bytes; the header ends in \n.
	pad := -(10 + len(dict) + 1) & 63
	dict += strings.Repeat(" ", pad) + "\n"
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	return append(b, dict...), nil
}
