"""What workers say of numbers, candidates and solutions is read as it was meant."""

from fractions import Fraction

import pytest

from workflow.number import as_number, read_number
from workflow.operators.answer import read_answer
from workflow.operators.ensemble import read_choice
from workflow.operators.review import read_review

NUMBERS = [
    ("The answer is 42.", "42"),
    ("#### 1,234", "1234"),
    ("\\boxed{3/4}", "3/4"),
    ("\\boxed{\\frac{3}{4}}", "3/4"),
    ("<think>Perhaps the answer is 12? No.</think>\nShe has 15 apples.", "15"),
    ("<think>so #### 12 no</think> Result: 15", "15"),
    ("**Answer:** 15", "15"),
    ("Answer: **15**", "15"),
    ("Final answer: $15.00", "15"),
    ("The answer is 1.5e3", "1500"),
    ("The answer is 15%", "15"),
    ("#### 15 apples out of 20", "15"),
    ("#### -5", "-5"),
    ("The answer is -5", "-5"),
    ("答案是 15。", "15"),
    ("答案\uff1a15\n(共 3 步)", "15"),
    ("La réponse est 1 234,5", "1234.5"),
    ("The answer is \\(15\\).", "15"),
    ("The answer is $\\boxed{15}$.", "15"),
    ("The answer is approximately 15 dollars (rounded to 2 decimals).", "15"),
    ("He pays 15 dollars in 3 days", "3"),
    ("#### 15\n\nLet me double check: 5*3=15. Yes, 3 boxes.", "15"),
    ("Therefore, Tom is 15 years old in 2024.", "2024"),
    ("\\boxed{15\\text{ cm}}", "15"),
    ("\\boxed{ 1{,}234 }", "1234"),
    ("#### 1 234", "1234"),
    ("#### ½", "1/2"),
    ("The answer is fifteen.", "15"),
    ("15.0", "15"),
    ("#### $1,234.50", "1234.5"),
    ("#### 10:30", "10"),
    ("#### \uff11\uff15", "15"),
    ("The final answer is: 15", "15"),
    ("answer = 15", "15"),
    ("Answer: x = 15", "15"),
    ("The answer is x=15.", "15"),
    ("The answer is 2+3=5", "5"),
    ("The answer is 15 = 3*5.", "15"),
    ("#### 1\xa0234", "1234"),
    ("The answer is twenty-one.", "21"),
    ("\\boxed{x = 7}", "7"),
    ("\\boxed{-\\dfrac{1}{2}}", "-1/2"),
    ("It costs 3 dollars for 2024 200 gram bags", "200"),
    ("**Answer:** After 3 days, Janet has 18 eggs.", "18"),
    ("**Final Answer:** The total of the 4 boxes is 96.", "96"),
    ("Answer: It takes 2 hours and 30 minutes, i.e. 150 minutes", "150"),
    ("The answer is 2½", "5/2"),
    ("The answer is 1 1/2", "3/2"),
    ("\\boxed{2^{10}}", "1024"),
    ("Answer: 7 \\times 10^3", "7000"),
    ("So it is 7 × 10^{-2}.", "7/100"),
    ("\\boxed{2\\frac{1}{2}}", "5/2"),
    ("\\boxed{\\frac12}", "1/2"),
    ("The area is 15 cm^2.", "15"),
    ("**Final Answer:** The area is 15 m².", "15"),
    ("### Final Answer\nMrs. Smith has 18 eggs left.", "18"),
    ("**Final Answer**\n\nAfter 3 days Janet has **18 eggs** in 2 baskets.", "18"),
    ("**Answer:** It will take Jill **5** hours to read all 100 pages.", "5"),
    ("Therefore, Janet makes **$18** per day from 9 eggs.", "18"),
    ("1. **2 boxes:** 10 eggs\n2. **Total**: 16 - 4 = 12", "12"),
    ("**1. Find the eggs** 16 - 3 - 4 = 9", "9"),
    ("So **9 * 2 = $18** in all.", "18"),
    ("#### 18\n\nThis answer is based on 3 ducks.", "18"),
    ("#### 18\n\nThe answer is correct: 3 * 6 = 18, not 20.", "18"),
    ("The answer is not 20; it is 18.", "18"),
    ("<answer>18</answer>\nChecked with 2 methods.", "18"),
    ("\\boxed{\\text{Total: }18}", "18"),
    ("\\boxed{\\$1{,}250.50}", "1250.5"),
    ("\\[\n\\boxed{18}\n\\]", "18"),
    ("The final answer is: $\\boxed{18}$. I hope it is correct.", "18"),
    ("The house is worth $1.5 million.", "1500000"),
    ("The answer is one hundred and twenty dollars.", "120"),
    ("The answer would be 18, since 2 * 9 = 18.", "18"),
    ("Answer: The total (for 3 boxes) is 96 (32 each).", "96"),
    ("The correct answer is **B) 18**.", "18"),
    ("**Answer: approximately $18.67 (rounded to 2 decimals)**", "18.67"),
    ("Answer: 3 + 4 boxes, so 7", "7"),
    ("<|channel|>analysis<|message|>Answer: 3<|end|><|start|>assistant<|channel|>final<|message|>**18**", "18"),
    ("## Step 3: Add.\n16 - 7 = 9\n\nThe final answer is: $\\boxed{9}$<|eot_id|>", "9"),
]
CHOICES = [
    ("B", 1),
    ("**B**", 1),
    ("(B)", 1),
    ("Answer: B", 1),
    ("<think>A looks fine. C too.</think>\nB", 1),
    ("<think>A? The answer is A. Hmm.</think>\n\nB is best because it matches.", 1),
    ("I choose candidate B over A", 1),
    ("A and C are wrong, so B", 1),
    ("The most consistent is B.", 1),
    ("答案\uff1aB", 1),
    ("选择B", 1),
    ("```\nB\n```", 1),
    ("\\boxed{B}", 1),
    ('{"solution_letter": "B"}', 1),
    ("<solution_letter>B</solution_letter>", 1),
    ("Candidate B is the answer. A is not.", 1),
    ("B.", 1),
    ("b", 1),
    ("The answer is a bit unclear, but B", 1),
    ("Solution A has a bug. Solution B is right. Solution C has a bug.", 1),
    ("D", None),
    ("", None),
    ("The most consistent solution is B.", 1),
    ("Candidate B is best because A and C fail.", 1),
    ("<think>A seems ok but B...</think>\nB", 1),
    ("I choose candidate (B).", 1),
    ("A and B agree, so the choice is A", 0),
    ("Letter: C", 2),
    ("A candidate that works is B", 1),
    ("Both A and B are equivalent; pick A or B.", 0),
    ("B\n\nB handles the empty list, but A does not.", 1),
    ("**B**\n\nCandidates A and B agree, but C differs", 1),
    ("(B)\n\nExplanation: A ignores zero.", 1),
    ("B — both return a list, whereas candidate C raises.", 1),
    ("B. The others fail: A returns None, and so C.", 1),
    ("**B)** It sorts; candidate A does not.", 1),
    ("B, because A and C fail on the empty list.", 1),
    ("Candidate B\n\nIt is what A does, too, but C is off by one.", 1),
    ("A: wrong for 0.\nB: right.\nC: wrong for 1.\n\nAnswer: B", 1),
    ("A. Fails for 0.\nB. Returns the sum.\nC. Fails for 1.\nSo B is the best.", 1),
    ("**A**: fails\n**B**: works\n**C**: fails\n\n**Final answer: B**", 1),
    ("The most consistent is B: A returns None.", 1),
    ("Comparing them: A adds, B adds too, C multiplies. Therefore, B.", 1),
    ("A and B both return the sum, while C returns the product. The most consistent candidate is **A**.", 0),
    ("A: fails for 0, B: works, C: fails for 1. So B.", 1),
    ("B\n\nWait, C fails as well, so the answer is A.", 0),
    ("The answer is **B**.\n\n- A: off by one\n- C: raises", 1),
    ("\\boxed{B}\n\nA fails.", 1),
    ("\\boxed{\\text{B}}", 1),
    ("<answer>B</answer>\nA is wrong.", 1),
    ("### Analysis\n\nCandidate A loops. Candidate B sorts. Candidate C sorts too.\n\n### Final Answer\n\n**B**", 1),
    ("Selected: B\nReason: A overflows.", 1),
    ("My choice is candidate B, since C is wrong.", 1),
    ("I would go with B.", 1),
    ("<|channel|>analysis<|message|>Answer: C<|end|><|start|>assistant<|channel|>final<|message|>B", 1),
    ("B: it is the one that most agree with.", 1),
    ("`B`\n\nReason: A and B behave the same.", 1),
    ("Looking at the candidates:\n- A: returns 3\n- B: returns 3\n- C: returns 4\n\nA and B agree, so I choose A.", 0),
]
"""Of three candidates, A to C."""
VERDICTS = [
    ("Verdict: approved", True),
    ("**Verdict:** approved\nFine.", True),
    ("Verdict: **Approved**", True),
    ("verdict - Rejected\nwrong", False),
    ("<think>Verdict: rejected? no</think>\nVerdict: approved", True),
    ("Verdict: approved\n\nIf the verdict were rejected I'd say so.", True),
    ("Verdict: Not approved", False),
    ("Verdict: approved with minor comments", True),
    ("Verdict: approve", True),
    ("结论\uff1aapproved", True),
    ("The verdict is: approved", True),
    ("Verdict: correct", True),
    ("Verdict: The solution is approved.", True),
    ("verdict - APPROVED", True),
    ("**Approved**", True),
    (("Verdict: Rejected. If the fix below were applied the verdict: approved would follow."), False),
    ("Verdict: incorrect", False),
    ("My final verdict is: rejected", False),
    ("The solution looks correct. I approve it.", False),
    ("Verdict: ✅ Approved", True),
    ("## Verdict\n\n**Approved** ✅\n\nAll points hold.", True),
    ("**Final Verdict:** ❌ Rejected\n\nIt fails for 0.", False),
    ("Verdict: this solution is correct.", True),
    ("Verdict: The provided code is incorrect.", False),
    ("Verdict: accepted", True),
    ("Verdict: PASS", True),
    ("Verdict: fails for the empty list", False),
    ("Verdict: valid", True),
    ("Verdict: invalid", False),
    ("Approved: all points hold.", True),
    ("Approved! It does what is asked.", True),
    ("Approved — it does what is asked.", True),
    ("Rejected: off by one. Once mended it is approved.", False),
    ('{"verdict": "approved", "feedback": ""}', True),
    ("Verdict: partially correct", False),
    ("Verdict: mostly correct, but it fails for 0.", False),
    ("Verdict: does not pass", False),
    ("Verdict: unapproved", False),
    ("Verdict: \\boxed{approved}", True),
    ("The verdict is **approved**, because each case holds.", True),
    ("Verdict: approved<|im_end|>", True),
    ("Point by point:\n1. Types: correct.\n2. Empty list: correct.\n\n**Verdict: approved**", True),
    ("<|channel|>analysis<|message|>Verdict: approved<|end|><|start|>assistant<|channel|>final<|message|>Verdict: rejected", False),
]


@pytest.mark.parametrize(("answer", "number"), NUMBERS)
def test_the_number_that_an_answer_ends_on_is_read(answer: str, number: str) -> None:
    assert read_number(answer) == Fraction(number)


@pytest.mark.parametrize("text", ["", "x", "5^x", "9^99999", "1e9^999", "1/0", "0^-1", "nan5", "1e999^9", "-", "9" * 300])
def test_what_is_no_number_or_too_large_a_one_is_none(text: str) -> None:
    assert as_number(text) is None


@pytest.mark.parametrize(("reply", "choice"), CHOICES)
def test_the_candidate_that_a_reply_names_is_chosen(reply: str, choice: int | None) -> None:
    assert read_choice(reply, 3) == choice


@pytest.mark.parametrize(("reply", "approved"), VERDICTS)
def test_a_verdict_is_what_its_line_says(reply: str, approved: bool) -> None:
    assert read_review(reply)["approved"] is approved


def test_thoughts_leak_into_no_feedback_and_no_answer() -> None:
    report = read_review("<think>Verdict: approved? no</think>\nVerdict: rejected\nOff by one.")
    assert report == {"approved": False, "feedback": "Off by one."}
    assert read_answer("<think><answer>1</answer></think><answer>42</answer>") == "42"
