module starling/internal/parity/_gen

go 1.26
