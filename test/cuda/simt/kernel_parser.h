// Parses the body of one kernel. Device functions that nvcc left out of line (double precision's slow paths) are parsed
// again at every call, in place: a call costs nothing at run time, and a recursive one is refused.
#pragma once

#include <map>
#include <string>

#include "decoder.h"
#include "lexer.h"
#include "symbols.h"

namespace flowmap::simt {

/** A .func with a body: where its text is. */
struct Function {
  Lexer::Place body;
  std::vector<std::string> results, parameters;
};

/** What a module's text declares outside functions. */
struct ModuleScope {
  std::map<std::string, Variable> variables;  // global, constant and shared
  std::map<std::string, uint32_t> sharedSizes, sharedAlignments;
  std::map<std::string, Function> functions;
  std::map<int, std::string> files;
};

struct Declaration {
  std::string name;
  Type type = Type::none;
  uint32_t alignment = 1;
  uint64_t bytes = 0;
  bool unsized = false;  // name[]
};
/** What follows the state space of a variable's declaration, up to its initialiser, `,`, `)` or `;`. */
Declaration parseDeclaration(Lexer&);

class KernelParser {
 public:
  KernelParser(Lexer&, Module&, const ModuleScope&, Kernel&);
  void parse();  // from the kernel's name's `(` to its closing brace

 private:
  void parseParameters();
  void parseDirectives();
  void parseBlock();  // after `{`, to its `}`
  void parseDirective(const std::string& name);
  void parseRegisters();
  void parseVariable(Space);
  void parseLocation();
  void parseInstruction();
  void parseCall(Statement&, Slot guard, uint32_t skipIf);
  void inlineFunction(const std::string& name, const std::vector<std::string>& results,
                      const std::vector<std::string>& arguments);
  Instruction& emit(Statement&, Slot guard, uint32_t skipIf);
  void emitBranch(const std::string& label, Slot guard, uint32_t skipIf);
  Operand parseOperand();
  Operand parseAddress();
  Operand named(const std::string& name);
  /** The slot of a declared register; one of a range gets its slot at its first use. */
  std::optional<Slot> findRegister(const std::string& name);
  Variable* findVariable(const std::string& name);
  Slot specialSlot(const std::string& name, Special);
  Slot freshSlot(uint64_t value = 0);
  uint32_t place(Space, uint64_t bytes, uint32_t alignment);
  void openScope() { scopes_.emplace_back(); }
  void closeScope();
  void resolve(const LabelUse&, size_t target);
  void finish();
  const char* keep(std::string text);

  Lexer& lexer_;
  Module& module_;
  const ModuleScope& moduleScope_;
  Kernel& kernel_;
  Decoder decoder_;
  std::vector<Scope> scopes_;
  std::map<std::string, Slot> specials_;
  std::vector<std::pair<size_t, size_t>> branches_;  // instruction, target
  std::vector<Slot> dynamicShared_;
  uint32_t dynamicAlignment_ = 16;
  std::vector<std::string> returnLabels_;  // of the functions being inlined
  std::vector<std::string> inlining_;
  int inlined_ = 0;
  const char* where_ = "";
  std::map<std::string, const char*> strings_;
  std::map<std::string, std::string> locations_;  // the latest text for a place in a file
};

}  // namespace flowmap::simt
