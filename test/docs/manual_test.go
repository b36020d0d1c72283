package docs

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuardIsDocumented: everything that package guard exports has a comment, and the package comment, which is the way into
// the manual, names each function and type.
func TestGuardIsDocumented(t *testing.T) {
	fset := token.NewFileSet()
	var parsed []*ast.File
	sources, err := filepath.Glob(filepath.Join(root, "actuators/guard/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	p, err := doc.NewFromFiles(fset, parsed, "guard")
	if err != nil {
		t.Fatal(err)
	}
	functions := p.Funcs
	for _, typ := range p.Types {
		functions = append(functions, typ.Funcs...)
		if typ.Doc == "" {
			t.Errorf("guard.%s has no comment", typ.Name)
		}
		if !strings.Contains(p.Doc, "["+typ.Name+"]") && !strings.Contains(p.Doc, "["+typ.Name+".") {
			t.Errorf("the comment of package guard does not link to %s", typ.Name)
		}
		for _, method := range typ.Methods {
			if method.Doc == "" {
				t.Errorf("guard.%s.%s has no comment", typ.Name, method.Name)
			}
		}
		for _, field := range bare(typ.Decl) {
			t.Errorf("guard.%s.%s has no comment", typ.Name, field)
		}
	}
	for _, f := range functions {
		if f.Doc == "" {
			t.Errorf("guard.%s has no comment", f.Name)
		}
		if !strings.Contains(p.Doc, "["+f.Name+"]") {
			t.Errorf("the comment of package guard does not link to %s", f.Name)
		}
	}
	if len(p.Types) < 20 || len(functions) < 10 {
		t.Errorf("only %d types and %d functions found", len(p.Types), len(functions))
	}
}

// bare lists the exported fields of a struct that have no comment above or beside them.
func bare(decl *ast.GenDecl) (names []string) {
	for _, spec := range decl.Specs {
		s, ok := spec.(*ast.TypeSpec).Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, field := range s.Fields.List {
			if field.Doc != nil || field.Comment != nil {
				continue
			}
			for _, name := range field.Names {
				if name.IsExported() {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}
