// The parts of the page, in their order. To add one (dead letters, calls …): a module
// that exports `{ id, title, draw }`, and its name here. `draw(view)` returns a new element from
// the view that `view.js` made of the answers, or null when it has nothing to show; it keeps no
// element.

import { checkpoints } from "./checkpoints.js";
import { complaints } from "./complaints.js";
import { figures } from "./figures.js";
import { operators } from "./operators.js";
import { recoveries } from "./recoveries.js";
import { tasks } from "./tasks.js";
import { topology } from "./topology.js";

export const SECTIONS = [figures, topology, operators, tasks, recoveries, checkpoints, complaints];
