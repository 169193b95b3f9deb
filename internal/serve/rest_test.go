package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"starling/internal/coordinator"
	"starling/internal/flock"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// TestMetadata asks all there is to ask, and what there is not.
func TestMetadata(t *testing.T) {
	r := run(t, Config{Version: "v7"}, digitModel(t, flock.Config{}))
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/v2", 200, `{"name":"starling","version":"v7","extensions":["binary_tensor_data"]}`},
		{"GET", "/v2/", 200, `{"name":"starling","version":"v7","extensions":["binary_tensor_data"]}`},
		{"GET", "/v2/health/live", 200, `{"live":true}`},
		{"GET", "/v2/health/ready", 200, `{"ready":true}`},
		{"GET", "/v2/models/digits", 200, `{"name":"digits","versions":["1"],"platform":"onnx_onnxv1","inputs":[{"name":"input","datatype":"FP32","shape":[1,1,28,28]}],"outputs":[{"name":"logits","datatype":"FP32","shape":[1,10]}]}`},
		{"GET", "/v2/models/digits/versions/1/ready", 200, `{"name":"digits","ready":true}`},
		{"GET", "/v2/models/digits/versions/2", 404, `{"error":"model \"digits\" has no version \"2\", only 1"}`},
		{"GET", "/v2/models/dogs/ready", 404, `{"error":"there is no model \"dogs\""}`},
		{"POST", "/v2/models/dogs/infer", 404, `{"error":"there is no model \"dogs\""}`},
		{"GET", "/v2/models/digits/infer", 405, `{"error":"/v2/models/{name}/infer is for POST"}`},
		{"GET", "/metrics", 404, `{"error":"there is nothing here: see /v2"}`},
	} {
		got := r.do(t, test.method, test.path, nil)
		if got.status != test.status || string(got.body) != test.body || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d %s, want %d %s", test.method, test.path, got.status, got.body, test.status, test.body)
		}
	}
}

// inferAnswer is an answer in JSON.
type inferAnswer struct {
	Name    string `json:"model_name"`
	Version string `json:"model_version"`
	ID      string `json:"id"`
	Outputs []struct {
		Name       string
		Datatype   string
		Shape      []int
		Data       []float32
		Parameters struct {
			Size int `json:"binary_data_size"`
		}
	}
}

// TestInfer sends a digit in every form there is; each answer has the bits of a
// run without a server.
func TestInfer(t *testing.T) {
	m := digitModel(t, flock.Config{})
	r := run(t, Config{}, m)
	x, want := digit(3), local(t, m, 3)
	flat, err := json.Marshal(x.F32())
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for y := range 28 {
		row, err := json.Marshal(x.F32()[28*y : 28*y+28])
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, string(row))
	}
	nested := "[[[" + strings.Join(rows, ", ") + "]]]"
	binaryIn := `{"inputs":[{"name":"input","datatype":"FP32","shape":[1,1,28,28],"parameters":{"binary_data_size":3136}}]`
	for _, test := range []struct {
		name, text    string
		behind        []byte // the text
		binary, chunk bool   // answer; request of unknown length
	}{
		{name: "flat", text: `{"id":"7\u00fc\"","inputs":[{"name":"input","shape":[1,1,28,28],"datatype":"FP32","data":` + string(flat) + `}]}`},
		{name: "nested, data first", text: `{"inputs":[{"data":` + nested + `,"shape":[1,1,28,28],"name":"input","datatype":"FP32"}],"id":"7ü\""}`},
		{name: "null for none", text: `{"id":"7ü\"","parameters":null,"outputs":null,"inputs":[{"parameters":null,"name":"input","shape":[1,1,28,28],"datatype":"FP32","data":` + string(flat) + `}]}`},
		{name: "unknown length", chunk: true, text: `{"id":"7ü\"","inputs":[{"name":"input","shape":[1,1,28,28],"datatype":"FP32","data":` + string(flat) + `}],"more":[{"x":null}]}`},
		{name: "binary output", binary: true, text: `{"id":"7ü\"","outputs":[{"name":"logits","parameters":{"binary_data":true}}],"inputs":[{"name":"input","shape":[1,1,28,28],"datatype":"FP32","data":` + nested + `}]}`},
		{name: "binary input", text: binaryIn + `,"id":"7ü\""}`, behind: x.Data},
		{name: "both binary", text: binaryIn + `,"id":"7ü\"","parameters":{"binary_data_output":true,"timeout":20000000}}`, behind: x.Data, binary: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.behind != nil {
				header = []string{headerText, strconv.Itoa(len(test.text))}
			}
			body := append([]byte(test.text), test.behind...)
			got := answered{}
			if test.chunk {
				got = r.send(t, "POST", "/v2/models/digits/infer", io.MultiReader(bytes.NewReader(body)))
			} else {
				got = r.post(t, "digits", body, header...)
			}
			if got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			text := got.body
			if test.binary {
				n, err := strconv.Atoi(got.header.Get(headerText))
				if err != nil {
					t.Fatal(err)
				}
				text = got.body[:n]
			}
			var a inferAnswer
			if err := json.Unmarshal(text, &a); err != nil {
				t.Fatal(err)
			}
			if a.Name != "digits" || a.Version != "1" || a.ID != `7ü"` || len(a.Outputs) != 1 || a.Outputs[0].Name != "logits" ||
				a.Outputs[0].Datatype != "FP32" || fmt.Sprint(a.Outputs[0].Shape) != "[1 10]" {
				t.Fatalf("answer %s", text)
			}
			logits := tensor.Bytes(a.Outputs[0].Data)
			if test.binary {
				if logits = got.body[len(text):]; a.Outputs[0].Parameters.Size != len(logits) {
					t.Fatalf("binary_data_size %d, %d bytes follow", a.Outputs[0].Parameters.Size, len(logits))
				}
			}
			if !bytes.Equal(logits, want.Data) {
				t.Errorf("logits %v, want %v", logits, want.Data)
			}
		})
	}
}

// everyType is a model that gives back an input of each type, with some exceptions.
func everyType(t testing.TB, but ...tensor.DType) Model {
	t.Helper()
	g := &graph.Graph{Opset: 18, Constants: map[string]*tensor.Tensor{}}
	for dtype, name := range datatypes {
		if slices.Contains(but, dtype) {
			continue
		}
		g.Inputs = append(g.Inputs, graph.Value{Name: name, Info: graph.Info{Type: dtype, Shape: tensor.Shape{1, 2}}})
		g.Nodes = append(g.Nodes, &graph.Node{Name: name, Op: "Identity", Inputs: []string{name}, Outputs: []string{"Y" + name}})
		g.Outputs = append(g.Outputs, "Y"+name)
	}
	if err := g.Prepare(); err != nil {
		t.Fatal(err)
	}
	return modelOf(t, "types", g, flock.Config{})
}

// typed are two values of each type, as JSON has them, the first the least and
// the second the largest or most awkward.
var typed = map[string][2]string{
	"BOOL": {"false", "true"}, "UINT8": {"0", "255"}, "UINT16": {"0", "65535"}, "UINT32": {"0", "4294967295"},
	"UINT64": {"0", "18446744073709551615"}, "INT8": {"-128", "127"}, "INT16": {"-32768", "32767"},
	"INT32": {"-2147483648", "2147483647"}, "INT64": {"-9223372036854775808", "9223372036854775807"},
	"FP16": {"-65504", "0.33325195"}, "BF16": {"-1.5", "0.33398438"}, "FP32": {"-3.4028235e+38", "0.1"}, "FP64": {"5e-324", "0.1"},
}

// TestDatatypes sends each type as JSON and as bytes, and gets it back as both.
func TestDatatypes(t *testing.T) {
	r := run(t, Config{}, everyType(t))
	var inputs, outputs []string
	for name, v := range typed {
		inputs = append(inputs, fmt.Sprintf(`{"name":%q,"datatype":%q,"shape":[1,2],"data":[[%s,%s]]}`, name, name, v[0], v[1]))
		outputs = append(outputs, fmt.Sprintf(`{"name":"Y%s","parameters":{"binary_data":true}}`, name))
	}
	answer := r.post(t, "types", fmt.Appendf(nil, `{"inputs":[%s]}`, strings.Join(inputs, ",")))
	if answer.status != 200 {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	for name, v := range typed {
		want := fmt.Sprintf(`{"name":"Y%s","datatype":%q,"shape":[1,2],"data":[%s,%s]}`, name, name, v[0], v[1])
		if !bytes.Contains(answer.body, []byte(want)) {
			t.Errorf("no %s in %s", want, answer.body)
		}
	}
	answer = r.post(t, "types", fmt.Appendf(nil, `{"inputs":[%s],"outputs":[%s]}`, strings.Join(inputs, ","), strings.Join(outputs, ",")))
	n, err := strconv.Atoi(answer.header.Get(headerText))
	if answer.status != 200 || err != nil {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	// What came back as bytes is sent as bytes.
	behind := answer.body[n:]
	var a inferAnswer
	if err := json.Unmarshal(answer.body[:n], &a); err != nil {
		t.Fatal(err)
	}
	inputs = nil
	for _, o := range a.Outputs {
		name := o.Name[1:]
		inputs = append(inputs, fmt.Sprintf(`{"name":%q,"datatype":%q,"shape":[1,2],"parameters":{"binary_data_size":%d}}`, name, name, o.Parameters.Size))
	}
	text := fmt.Sprintf(`{"inputs":[%s],"outputs":[%s]}`, strings.Join(inputs, ","), strings.Join(outputs, ","))
	again := r.post(t, "types", append([]byte(text), behind...), headerText, strconv.Itoa(len(text)))
	if !bytes.Equal(again.body, answer.body) {
		t.Errorf("sent as bytes: %d %q, want %q", again.status, again.body, answer.body)
	}
	// NaN has no JSON, but bytes.
	for i := range behind {
		behind[i] = 0xff
	}
	for i, o := range a.Outputs {
		if o.Datatype == "BOOL" {
			at := 0
			for _, before := range a.Outputs[:i] {
				at += before.Parameters.Size
			}
			behind[at], behind[at+1] = 1, 2
		}
	}
	if got := r.post(t, "types", append([]byte(text), behind...), headerText, strconv.Itoa(len(text))); got.status != 400 ||
		string(got.body) != `{"error":"input \"BOOL\": element 1 is 2, not 0 or 1"}` {
		t.Errorf("a BOOL of 2: %d %s", got.status, got.body)
	}
}

func TestBadRequests(t *testing.T) {
	r := run(t, Config{}, everyType(t), digitModel(t, flock.Config{}))
	input := func(s string) string { return `{"inputs":[{"name":"input",` + s + `}]}` }
	shaped := func(s string) string { return input(`"datatype":"FP32","shape":[1,1,28,28],` + s) }
	for _, test := range []struct {
		name, body, text string // text: length of the JSON in the header
		status           int
		said             string
	}{
		{"empty", ``, "", 400, `JSON, byte 0: want '{', it ends`},
		{"no object", `[1]`, "", 400, `JSON, byte 0: want '{', got '['`},
		{"no inputs", `{"id":"x"}`, "", 400, `the request has no inputs`},
		{"no input", `{"inputs":[]}`, "", 400, `input "input": want FP32 [1,1,28,28], got nothing`},
		{"other input", `{"inputs":[{"name":"x"}]}`, "", 400, `there is no input "x": model "digits" takes "input"`},
		{"other shape", input(`"datatype":"FP32","shape":[28,28],"data":[]`), "", 400, `input "input": want FP32 [1,1,28,28], got FP32 [28,28]`},
		{"other type", input(`"datatype":"FP64","shape":[1,1,28,28],"data":[]`), "", 400, `input "input": want FP32 [1,1,28,28], got FP64 [1,1,28,28]`},
		{"negative dimension", input(`"datatype":"FP32","shape":[-1],"data":[]`), "", 400, `shape: JSON, byte 56: "-1" is not a whole number from 0 on`},
		{"no data", shaped(`"x":0`), "", 400, `input "input": want FP32 [1,1,28,28], got no data`},
		{"few", shaped(`"data":[1,2]`), "", 400, `input "input", FP32 [1,1,28,28]: JSON, byte 77: 2 values where there must be 784`},
		{"many", shaped(`"data":[[[` + strings.Repeat("[0],", 28) + `[0]]]]`), "", 400, `1 values where there must be 28`},
		{"words", shaped(`"data":["a"]`), "", 400, `JSON, byte 73: want a number or a name, got '"'`},
		{"no number", shaped(`"data":[01]`), "", 400, `"01" is not a FP32`},
		{"no array", shaped(`"data":7`), "", 400, `JSON, byte 72: want '[', got '7'`},
		{"no end", strings.TrimSuffix(shaped(`"data":[[7]`), "}]}"), "", 400, `an array has no end`},
		{"data twice", shaped(`"data":[x],"data":[0]`), "", 400, `an input has data twice`},
		{"too large a number", shaped(`"data":[1e39]`), "", 400, `"1e39" is not a FP32`},
		{"twice", `{"inputs":[{"name":"input","datatype":"FP32","shape":[1,1,28,28],"parameters":{"binary_data_size":3136}},{"name":"input"}]}`, "", 400, `input "input" is given twice`},
		{"other output", `{"outputs":[{"name":"x"}]}`, "", 400, `there is no output "x": model "digits" gives "logits"`},
		{"output twice", `{"outputs":[{"name":"logits"},{"name":"logits"}]}`, "", 400, `output "logits" is asked for twice`},
		{"classes", `{"outputs":[{"name":"logits","parameters":{"classification":3}}]}`, "", 400, `parameter classification is not supported`},
		{"timeout", `{"parameters":{"timeout":-3}}`, "", 400, `parameter timeout: JSON, byte 27: "-3" is not a whole number from 0 on`},
		{"long timeout", `{"parameters":{"timeout":99999999999999}}`, "", 400, `want microseconds, from 0 (none) to 86400000000`},
		{"deep", `{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, "", 400, `nested more than 64 deep`},
		{"behind the end", `{"inputs":[]}x`, "", 400, `want the end, got 'x'`},
		{"other size", shaped(`"parameters":{"binary_data_size":4}`), fmt.Sprint(len(shaped(`"parameters":{"binary_data_size":4}`))), 400, `input "input": want 3136 bytes for FP32 [1,1,28,28], got binary_data_size 4`},
		{"bytes missing", shaped(`"parameters":{"binary_data_size":3136}`) + "abc", fmt.Sprint(len(shaped(`"parameters":{"binary_data_size":3136}`))), 400, `the request ends within the 3136 bytes of input "input"`},
		{"JSON missing", `{}`, "30", 400, `the request ends within its JSON`},
		{"no length", `{}`, "x", 400, `Inference-Header-Content-Length "x" is no number of bytes`},
		{"long JSON", `{}`, "2000000000", 413, `2000000000 bytes of JSON: a request to model "digits" has 90624 at most`},
		{"long", strings.Repeat(" ", 100000), "", 413, `100000 bytes: a request to model "digits" has 90624 at most`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var header []string
			if test.text != "" {
				header = []string{headerText, test.text}
			}
			got := r.post(t, "digits", []byte(test.body), header...)
			var said struct{ Error string }
			if err := json.Unmarshal(got.body, &said); err != nil || got.status != test.status || !strings.Contains(said.Error, test.said) {
				t.Errorf("%d %s (%v), want %d …%s…", got.status, got.body, err, test.status, test.said)
			}
		})
	}
	if got := r.post(t, "digits", nil, "Content-Encoding", "gzip"); got.status != 415 {
		t.Errorf("gzip: %d %s", got.status, got.body)
	}
	if got := r.post(t, "digits", []byte(zeros+`,"parameters":{"timeout":1}}`)); got.status != 504 || !bytes.Contains(got.body, []byte("within the time that the request gives, 1µs")) {
		t.Errorf("no time: %d %s", got.status, got.body)
	}
	text := shaped(`"parameters":{"binary_data_size":3136}`)
	if got := r.post(t, "digits", append([]byte(text), bytes.Repeat([]byte{0xff}, 3136)...), headerText, strconv.Itoa(len(text))); got.status != 400 || !bytes.Contains(got.body, []byte("ask for it as binary data")) {
		t.Errorf("an answer of NaN: %d %s", got.status, got.body)
	}
}

// TestBrokenBody sends a body that HTTP cannot read: the client's fault.
func TestBrokenBody(t *testing.T) {
	r := run(t, Config{}, digitModel(t, flock.Config{}))
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.rest, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nno length\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || !bytes.Contains(answer, []byte("the request cannot be read, within its JSON: ")) {
		t.Errorf("%s (%v)", answer, err)
	}
}

// halfSent begins a request to digits and returns what sends the rest and reads
// the status of the answer.
func halfSent(t *testing.T, r *running) (finish func() int) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.rest, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	text := `{"inputs":[{"name":"input","datatype":"FP32","shape":[1,1,28,28],"parameters":{"binary_data_size":3136}}]}`
	// It is answered 100 when its place is taken and its body is wanted.
	fmt.Fprintf(conn, "POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%s: %d\r\nContent-Length: %d\r\n\r\n", headerText, len(text), len(text)+3136)
	said := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, said); err != nil || !bytes.HasPrefix(said, []byte("HTTP/1.1 100 ")) {
		t.Fatalf("%q, %v", said, err)
	}
	return func() int {
		defer conn.Close()
		_, _ = conn.Write(append([]byte(text), digit(0).Data...))
		answer, err := io.ReadAll(conn)
		if err != nil && len(answer) == 0 {
			t.Fatal(err)
		}
		status, _ := strconv.Atoi(string(answer[len("HTTP/1.1 "):][:3]))
		return status
	}
}

// TestNoPlace refuses what is more than may be under way at once, before it is
// read, and says when to come again.
func TestNoPlace(t *testing.T) {
	r := run(t, Config{Requests: 1}, digitModel(t, flock.Config{}))
	first := halfSent(t, r)
	got := r.post(t, "digits", bytes.Repeat([]byte(" "), 50000))
	if got.status != 503 || got.header.Get("Retry-After") != "1" || !bytes.Contains(got.body, []byte(`{"error":"busy: 1 requests`)) {
		t.Errorf("%d %v %s, want 503 and Retry-After: 1", got.status, got.header, got.body)
	}
	r.end() // so that its connection is closed behind the answer
	if status := first(); status != 200 {
		t.Errorf("the first one: status %d", status)
	}
}

// TestEnd ends a server in the middle of a request: it is answered, and no other
// one is taken.
func TestEnd(t *testing.T) {
	r := run(t, Config{}, digitModel(t, flock.Config{}))
	first := halfSent(t, r)
	r.end()
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.rest, "http://"))
		if err != nil {
			break
		}
		conn.Close()
	}
	if status := first(); status != 200 {
		t.Errorf("status %d", status)
	}
}

// TestEndOfPatience ends a server whose client does not go on.
func TestEndOfPatience(t *testing.T) {
	m := digitModel(t, flock.Config{})
	s, err := New([]Model{m}, Config{Drain: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, l, listen(t)) }()
	halfSent(t, &running{rest: "http://" + l.Addr().String()})
	cancel()
	if err := <-ended; err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

// slowly is a digit model of which workers compute a slice for ever. What they
// drop is in the folder marks; scattered has an element when they compute.
func slowly(t *testing.T) (m Model, marks string, scattered chan struct{}) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	marks, scattered = t.TempDir(), make(chan struct{}, 1)
	return digitModel(t, flock.Config{
		Plan: withWorkers, StateDir: t.TempDir(), Command: []string{self, "worker", marks, "--emulate-slice", "1h"},
		OnScatter: func(uint64, int) { scattered <- struct{}{} },
		Patience:  -1, // else the coordinator would compute it
	}), marks, scattered
}

// dropped waits until each worker has dropped work.
func dropped(t *testing.T, marks string) {
	t.Helper()
	limit, tick := time.After(within), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for _, id := range []string{"w1", "w2", "w3"} {
		var counts map[string]int
		for counts["worker: work dropped that nobody wants any more"] == 0 {
			select {
			case <-tick.C:
			case <-limit:
				t.Fatalf("%s works on", id)
			}
			b, err := os.ReadFile(filepath.Join(marks, id))
			if err == nil {
				err = json.Unmarshal(b, &counts)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// zeros is a request to the digit model, but for its last bracket.
var zeros = `{"inputs":[{"name":"input","datatype":"FP32","shape":[1,1,28,28],"data":[` + strings.Repeat("0,", 783) + `0]}]`

// sentToAll waits until a request is with all workers: what is not yet sent is
// withdrawn, and nobody drops it.
func sentToAll(m Model, before []coordinator.WorkerStatus, scattered chan struct{}) {
	sent := func() bool {
		for i, w := range m.Flock.Status() {
			if w.Bytes-before[i].Bytes < uint64(len(digit(0).Data)) {
				return false
			}
		}
		return true
	}
	<-scattered
	limit, tick := time.After(within), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !sent() {
		select {
		case <-tick.C:
		case <-limit:
			return
		}
	}
}

// TestHangUp has a client hang up when the workers compute for it.
func TestHangUp(t *testing.T) {
	m, marks, scattered := slowly(t)
	r := run(t, Config{}, m)
	ctx, hangUp := context.WithCancel(t.Context())
	before := m.Flock.Status()
	go func() {
		defer hangUp()
		sentToAll(m, before, scattered)
	}()
	q, err := http.NewRequestWithContext(ctx, "POST", r.rest+"/v2/models/digits/infer", strings.NewReader(zeros+"}"))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := http.DefaultClient.Do(q); err == nil {
		a.Body.Close()
		t.Fatalf("answered %d, and the client hung up", a.StatusCode)
	}
	dropped(t, marks)
}

// TestTimeout has a client's time end likewise.
func TestTimeout(t *testing.T) {
	m, marks, scattered := slowly(t)
	r := run(t, Config{}, m)
	for timeout := 50 * time.Millisecond; len(scattered) == 0; timeout *= 2 { // on a busy machine the first may not come that far
		got := r.post(t, "digits", fmt.Appendf(nil, `%s,"parameters":{"timeout":%d}}`, zeros, timeout.Microseconds()))
		if got.status != http.StatusGatewayTimeout {
			t.Fatalf("%d %s, want 504", got.status, got.body)
		}
	}
	dropped(t, marks)
}

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		retry  bool
		code   code
	}{
		{bad("x"), 400, false, invalidArgument},
		{&coordinator.BusyError{Waiting: 3, RetryAfter: 1}, 503, true, resourceExhausted},
		{fmt.Errorf("run Gemm x: %w", &coordinator.LostError{Layer: "x", Slices: []int{1}, Workers: []string{"w2"}}), 500, false, internal},
		{coordinator.ErrClosed, 503, false, unavailable},
		{fmt.Errorf("run: %w", context.DeadlineExceeded), 504, false, deadlineExceeded},
		{os.ErrDeadlineExceeded, 408, false, deadlineExceeded},
		{context.Canceled, statusGone, false, canceled},
	} {
		if kind, retry := explain(test.err); kind != test.status || (retry > 0) != test.retry {
			t.Errorf("%v: %d %v, want %d", test.err, kind, retry, test.status)
		}
		if got, retry := codeOf(test.err); got != test.code || (retry > 0) != test.retry {
			t.Errorf("%v: code %d, want %d", test.err, got, test.code)
		}
	}
}
