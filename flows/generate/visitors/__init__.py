"""Shop visitors: half of them calm, the others with something on their mind, and the truth about who showed what when.

A persona (``personas``) is a process: what a visitor does, step by step, with a label written where the contract's
section 5 says that what was just done shows an emotion. No rule is run. What is drawn keeps clear of the thresholds, on
both sides, and everything around a scene is innocent by construction: pauses keep what came before out of a rule's
window. So a label is right because of how the visit is built; a brute-force reading of section 5 in the tests agrees.

- ``visit``, ``reading``: a visitor's hands and eyes, and the small things that mean nothing
- ``calm``, ``navigation``, ``prices``, ``till``, ``leaving``: what they come to do
- ``personas``, ``traffic``, ``truth``: who comes, the events, the labels

One behaviour may rightly show two emotions, or one emotion twice. These do, and the truth says both:

- clicks in a rage that have no effect: ``rage_click``, and ``dead_clicks`` at the second of them;
- a pointer that jerks and stops dead: ``erratic_pointer`` and ``pointer_stop``;
- a hover before an exit from pricing is a price hover of its own: ``price_glance`` or ``price_stare`` beside
  ``pricing_exit``; by the top edge also ``exit_after_pricing``;
- a hover on a price in the cart: ``price_glance`` beside ``cart_review``; from 4 s on ``price_stare`` beside
  ``cart_stare``;
- forth and back between a product and the help pages: ``back_and_forth`` and ``doubts``;
- two exits within 30 s: ``exits`` beside what each shows alone (``exit_from_till``, ``exit_after_pricing``); two from
  the till more than 5 s apart: ``exit_from_till`` twice;
- whoever goes away from the cart or the checkout without a word: ``silence_at_till`` after 60 s, beside
  ``exit_from_till``, ``cart_pause`` or ``failed_checkout``.
"""
