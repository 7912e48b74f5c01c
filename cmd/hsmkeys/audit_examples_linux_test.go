package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// recordsNothing are the commands that neither use a key nor change a keyring, a token or what is on it.
// Every other command must record what its examples do.
var recordsNothing = []string{
	"token list", "certificate", "list", "history", "log", "verify", "files", "file info", "age recipient", "age identity", "authority list", "owner list", "quorum list", "quorum request",
	"doctor",                                 // it tries what the pair can do, and opens no key
	"store copy", "store move", "store sync", // which know no token
	"derive",                                                   // a key that is in no keyring
	"agent status", "agent lock", "agent unlock", "agent stop", // the agent records what others do through it
	"softhsm run", "softhsm lose", "softhsm restore", "softhsm break", // of tokens that nobody keeps
	"completion", "version", "help",
}

// checkRecords compares what the examples of all commands have recorded with the commands that there
// are.
func checkRecords(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	begun := map[string]string{} // operations by the id of the change
	for line := range strings.Lines(string(data)) {
		var r struct {
			Command, Operation, Outcome, Change, Error string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		has[r.Command] = true
		switch {
		case r.Command == "" || r.Operation == "":
			t.Errorf("it says neither by what nor what: %s", line)
		case r.Outcome == "begun":
			begun[r.Change] = r.Operation
		case r.Outcome == "failed":
			t.Errorf("an example has failed: %s", line)
		case r.Change != "" && begun[r.Change] != r.Operation:
			t.Errorf("it has not begun: %s", line)
		default:
			delete(begun, r.Change)
		}
		if strings.Contains(line, testPIN) || strings.Contains(line, testSOPIN) {
			t.Errorf("it shows a PIN: %s", line)
		}
	}
	for _, op := range begun {
		t.Errorf("a change has begun, and has no outcome: %s", op)
	}
	for path, c := range everyCommand(newApp()) {
		if len(c.Subcommands) > 0 {
			continue
		}
		switch listed := slices.Contains(recordsNothing, path); {
		case !listed && !has[path]:
			t.Errorf("hsmkeys %s has recorded nothing: record what it does with keys, or name it in recordsNothing", path)
		case listed && has[path]:
			t.Errorf("hsmkeys %s records something, and is named in recordsNothing", path)
		}
	}
	for command := range has {
		if everyCommand(newApp())[command] == nil && command != "age-plugin-hsmkeys" {
			t.Errorf("%q is recorded, and is no command", command)
		}
	}
	if !has["age-plugin-hsmkeys"] {
		t.Error("the age plugin has recorded nothing")
	}
}
