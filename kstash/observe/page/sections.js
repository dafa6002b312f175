// The parts of the page, in their order. To add one (windows, timers, dead letters …): a module
// that exports `{ id, title, draw }`, and its name here. `draw(view)` returns a new element from
// what `view.js` made of the answers, or null while there is nothing to say; it keeps no element.

import { checkpoints } from "./checkpoints.js";
import { complaints } from "./complaints.js";
import { figures } from "./figures.js";
import { recoveries } from "./recoveries.js";
import { tasks } from "./tasks.js";
import { topology } from "./topology.js";

export const SECTIONS = [figures, topology, tasks, recoveries, checkpoints, complaints];
