package docs_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hsmkeys/hsmkeys"

// A goPackage is the description of a package by `go list`.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
	CgoFiles   []string
}

// packages returns the packages of the project.
func packages(t *testing.T, environment ...string) map[string]goPackage {
	t.Helper()
	list := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,CgoFiles", "-tags", "urfave_cli_no_docs", "./...")
	list.Dir, list.Stderr, list.Env = "..", os.Stderr, append(os.Environ(), environment...)
	out, err := list.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Start(); err != nil {
		t.Fatal(err)
	}
	all := map[string]goPackage{}
	for decode := json.NewDecoder(out); ; {
		var p goPackage
		if err := decode.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
	if err := list.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

// below reports whether a package is one of the named packages, or below one of them.
func below(path string, named ...string) bool {
	return slices.ContainsFunc(named, func(name string) bool {
		return path == module+name || strings.HasPrefix(path, module+name+"/")
	})
}

// The rules of architecture.md.
func TestImports(t *testing.T) {
	all := packages(t)
	for path, p := range all {
		isCommand := below(path, "/cmd", "/scripts")
		for _, imported := range p.Imports {
			switch imported {
			case "github.com/miekg/pkcs11":
				if !below(path, "/token", "/softhsm", "/scripts") {
					t.Errorf("%s imports PKCS #11", path)
				}
			case "github.com/ThalesIgnite/crypto11":
				if path != module+"/token" {
					t.Errorf("%s imports crypto11", path)
				}
			case "golang.org/x/term", "github.com/urfave/cli/v2", "flag":
				if !isCommand {
					t.Errorf("%s imports %s: only the program reads options and terminals", path, imported)
				}
			}
			if strings.HasPrefix(imported, module+"/cmd") && !isCommand {
				t.Errorf("%s imports %s", path, imported)
			}
		}
		for _, dep := range p.Deps {
			switch {
			case below(path, "/blob", "/ledger") && below(dep, "/token", "/softhsm"):
				t.Errorf("%s depends on %s", path, dep)
			case below(path, "/token") && below(dep, "/blob", "/ledger") && dep != module+"/blob/keyspec":
				t.Errorf("%s depends on %s", path, dep)
			case below(path, "/blob") && below(dep, "/ledger"):
				t.Errorf("%s depends on %s", path, dep)
			case below(path, "/blob", "/ledger", "/token/memkey", "/token/softpair") && (dep == "github.com/miekg/pkcs11" || dep == "github.com/ThalesIgnite/crypto11"):
				t.Errorf("%s depends on %s", path, dep)
			}
		}
	}
	for path, p := range packages(t, "CGO_ENABLED=0") {
		if below(path, "/blob", "/ledger") && len(p.CgoFiles) > 0 {
			t.Errorf("%s needs cgo", path)
		}
	}
}

// inSource calls f for each Go file of the libraries except tests.
func inSource(t *testing.T, f func(path string, file *ast.File)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, "../")
		if d.IsDir() {
			if strings.HasPrefix(name, ".") && name != ".." || slices.Contains([]string{"cmd", "scripts", "testdata", "dist", "bin"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		n++
		f(name, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 100 {
		t.Fatalf("%d files", n)
	}
}

func TestLibrariesDoNotReadTheEnvironment(t *testing.T) {
	inSource(t, func(path string, file *ast.File) {
		if path == "token/p11kit.go" || strings.HasPrefix(path, "softhsm/") {
			return // p11-kit's own configuration, as p11-kit finds it; programs that are started
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" && slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Args"}, s.Sel.Name) {
					t.Errorf("%s reads os.%s", path, s.Sel.Name)
				}
			}
			return true
		})
	})
}

// A library must not name a command or an option, as it would depend on its caller: package hint
// words the hints.
func TestLibrariesNameNoCommands(t *testing.T) {
	commands, err := filepath.Glob("../cmd/hsmkeys/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range commands {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".go"))
	}
	named := regexp.MustCompile(`\bhsmkeys (` + strings.Join(names, "|") + `|owner|authority|rotate)\b|(^|[ (])--[a-z]`)
	inSource(t, func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING && named.MatchString(strings.Trim(s.Value, "`\"")) {
				t.Errorf("%s: %s", path, s.Value)
			}
			return true
		})
	})
}

func TestTheArchitectureNamesThePackages(t *testing.T) {
	page, err := os.ReadFile("architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| package | what it does |")
	table, _, _ = strings.Cut(table, "\n\n")
	there := packages(t)
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(table, -1) {
		path := module
		if row[1] != "hsmkeys" {
			path += "/" + row[1]
		}
		if _, ok := there[path]; !ok {
			t.Errorf("architecture.md has a package %s, which does not exist", row[1])
		}
		delete(there, path)
	}
	for path := range there {
		t.Errorf("architecture.md lacks %s", path)
	}
}
