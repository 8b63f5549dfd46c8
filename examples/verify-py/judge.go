//go:build ignore

// Command judge is the Go verifier for differ.py, which compares the two. It reads
// receipts and bundles from stdin, each as its length (four bytes, big-endian) and
// its bytes, and answers each with one line: the verdict, then the step verdicts in
// the order of the report. It runs no module, as verify.py runs none.
//
//	go build -o judge examples/verify-py/judge.go && judge TRUST
//
// It is a file of no module: an example imports core, and core no example.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lacre-metrology/lacre/core/receipt"
	"github.com/lacre-metrology/lacre/core/signature"
	"github.com/lacre-metrology/lacre/core/trust"
)

const maxInput = 16 << 20

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: judge TRUST")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	verifier := receipt.Verifier{Signatures: signature.NewCache(1 << 12)}
	if verifier.Trust, err = trust.Parse(text); err != nil {
		return err
	}
	r, w := bufio.NewReader(in), bufio.NewWriter(out)
	for {
		var length uint32
		if err := binary.Read(r, binary.BigEndian, &length); errors.Is(err, io.EOF) {
			return w.Flush()
		} else if err != nil {
			return err
		}
		if length > maxInput {
			return fmt.Errorf("input of %d bytes, at most %d", length, maxInput)
		}
		content := make([]byte, length)
		if _, err := io.ReadFull(r, content); err != nil {
			return err
		}
		var report receipt.Report
		if strings.HasPrefix(string(content), "c2sp.org/") {
			_, report = verifier.Receipt(content)
		} else {
			_, report = verifier.Bundle(content)
		}
		fmt.Fprint(w, report.Verdict)
		for _, s := range report.Steps {
			fmt.Fprint(w, " ", s.Verdict)
		}
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
}
