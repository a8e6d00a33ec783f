// Answers that overtake each other: one that was asked for earlier than one that has come is old news.

/**
 * Orders the answers to a question that may be asked again before it is answered.
 * @returns {() => () => boolean} Called when the question is asked. What it returns is called with the answer, and says
 *   whether no answer to a later question has come.
 */
export function inOrder() {
  let asked = 0;
  let answered = 0;
  return () => {
    const number = ++asked;
    return () => {
      if (number < answered) return false;
      answered = number;
      return true;
    };
  };
}
